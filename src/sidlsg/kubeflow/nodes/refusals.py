"""What a cluster's refusal means to a user: what was asked, why it was refused, what to do."""

from __future__ import annotations

from typing import Any

from sidlsg.kubeflow.nodes.kind import Kind
from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.runtime.parsing import parse_json

AGAIN = (408, 425, 429)
"""Codes below 500 that say that the same request may work later."""
_LONGEST = 600


class ClusterError(SidlsgError):
    """The cluster's API did not answer, or not as it should: the same command again is worth trying."""


def worth_another_try(status: int) -> bool:
    """Whether an answer's code says that the same request may work later; 0 is none."""
    return status in AGAIN or status >= 500 or status == 0


def status_of(error: Any) -> dict[str, Any]:
    """The `Status` object in a refusal's body, where it holds one."""
    try:
        body = parse_json(error.body or "{}")
    except (ValueError, TypeError):
        return {}
    return body if isinstance(body, dict) else {}


def meaning(error: Any, what: str, namespace: str, kind: Kind) -> SidlsgError:
    """The project's error for a refusal.

    Args:
        error: the client's ApiException.
        what: was asked, such as `create TrainJob distil-1`.
        namespace: where.
        kind: of the objects that the client works with.
    """
    said = " ".join(str(status_of(error).get("message") or error.reason or "no reason").split())[:_LONGEST]
    where = f"{what} in namespace {namespace}"
    if error.status == 401:
        return InputError(
            f"the cluster does not know who asks ({where}): {said}; "
            "give the step a service account, or a kubeconfig that is signed in"
        )
    if error.status == 403 and "cannot " in said:
        return InputError(
            f"{where} is forbidden: {said}; give the service account of this process these rights: {kind.rights}"
        )
    if error.status == 404 and "namespaces" in said:
        return InputError(f"{where}: {said}; give a namespace that is there")
    if error.status == 404:
        return InputError(f"{where}: this cluster has no {kind.name}s ({said}); {kind.install}")
    return InputError(f"the cluster refuses to {where} (code {error.status}): {said}; change what it names")
