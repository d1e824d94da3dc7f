"""The Kubeflow Pipelines client, made to give up on a silent server; says so where it is not installed."""

from __future__ import annotations

from typing import Any

from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

try:
    import kfp_server_api as api
    import urllib3
    from kfp.client import ServiceAccountTokenVolumeCredentials
except ModuleNotFoundError as error:
    if error.name not in ("kfp", "kfp_server_api"):
        raise
    raise InputError("kfp is not installed, which talks to Kubeflow Pipelines; pip install 'sidlsg[kfp]'") from error


class Client(api.ApiClient):  # type: ignore[misc]
    """The generated client with a time limit, and without its habit of reading half an answer as an empty one."""

    def __init__(self, configuration: Any, timeouts: tuple[float, float], what: str) -> None:
        """Args:
        configuration: of the generated client.
        timeouts: seconds to connect, and to wait for data.
        what: the server is called in messages.
        """
        super().__init__(configuration)
        self._timeouts, self._what = timeouts, what

    def call_api(self, *arguments: Any, **named: Any) -> Any:
        """Call as the generated client does, with a limit to connect, one to wait for data, and one of the whole.

        Raises:
            StorageError: the whole took longer than both limits together, because the answer comes in small pieces.
        """
        named["_request_timeout"] = named.get("_request_timeout") or self._timeouts
        with deadline(sum(self._timeouts), self._what):
            return super().call_api(*arguments, **named)

    def deserialize(self, response: Any, response_type: Any) -> Any:
        """Read an answer.

        Raises:
            ValueError: it is not a JSON object.
        """
        if not isinstance(parse_json(response.data), dict):
            raise ValueError("not a JSON object")
        return super().deserialize(response, response_type)


def once_only() -> urllib3.Retry:
    """No retries inside the client, which cannot tell whether a repeated request is safe; redirects are followed."""
    return urllib3.Retry(total=3, connect=0, read=0, status=0, other=0, redirect=3)


__all__ = ["Client", "ServiceAccountTokenVolumeCredentials", "api", "once_only", "urllib3"]
