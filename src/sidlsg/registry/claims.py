"""One change of a model's aliases at a time, though MLflow has neither locks nor compare-and-set.

What MLflow does keep unique, in every store, is the name of an experiment. So whoever makes the experiment
`sidlsg-claims/MODEL/NUMBER.TRY` may carry out change NUMBER of the model; everybody else is told who that is. A change
that was made raises the number in the tag `changes` of the model; the experiment is deleted, which keeps its name.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.errors import InputError

CHANGES_TAG = "changes"
"""On the registered model: how many changes of its aliases were made."""
LEASE_S = 120.0
"""How long a claim holds: a change takes seconds, and one whose program was killed must not be in the way for good."""
_POLL_S = 0.5
_CAUSE, _HOLDER = "cause", "holder"
_FOLDER = "sidlsg-claims"


class Claim:
    """The right to change the aliases of a model."""

    def __init__(self, client: MlflowClient, name: str, number: int, attempt: int, experiment_id: str) -> None:
        self._client, self._name, self._number, self._experiment_id = client, name, number, experiment_id
        self.title = f"{number}.{attempt}"
        """The change's number, from 1, and which attempt at it this is, from 0."""
        self._until = time.monotonic() + LEASE_S / 2

    def check(self) -> None:
        """Make sure that it still holds, before what cannot be taken back.

        Raises:
            InputError: too much time went by, so somebody else may have begun.
        """
        gone = self._client.get_experiment(self._experiment_id).lifecycle_stage == "deleted"
        if gone or time.monotonic() > self._until:
            raise InputError(f"the change of {self._name!r} took too long, or was ended; nothing moved; run it again")

    def made(self) -> None:
        """Say that the change is complete."""
        self._client.set_registered_model_tag(self._name, CHANGES_TAG, str(self._number))

    def end(self) -> None:
        """Let others go ahead."""
        try:
            self._client.delete_experiment(self._experiment_id)
        except MlflowException as error:
            # Another process with the same cause ended it.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"):
                raise


@contextmanager
def claimed(client: MlflowClient, name: str, cause: str, *, clock: Callable[[], float] = time.time) -> Iterator[Claim]:
    """Keep others from changing the aliases of model `name` while the block runs.

    Args:
        client: of the registry.
        name: of an existing model.
        cause: what the change is for; the same cause again, a retry, waits for the end of the one before it.
        clock: seconds since 1970, of about the same clock as the server's.

    Raises:
        InputError: somebody else's change is going on.
    """
    claim = _claim(client, name, cause, clock)
    try:
        yield claim
    finally:
        claim.end()


def holder() -> str:
    """Who this is, for the audit trail: the user and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _claim(client: MlflowClient, name: str, cause: str, clock: Callable[[], float]) -> Claim:
    while True:
        number = _changes(client, name) + 1
        for attempt in count():
            made = _made(client, f"{_FOLDER}/{name}/{number}.{attempt}", cause)
            if made is not None:
                claim = Claim(client, name, number, attempt, made)
                if _changes(client, name) < number:
                    return claim
                # That change was made, and its experiment purged, between our two questions.
                claim.end()
                break
            other: Any = client.get_experiment_by_name(f"{_FOLDER}/{name}/{number}.{attempt}")
            if other is None or other.lifecycle_stage == "deleted":
                if _changes(client, name) >= number:
                    break
                continue
            left = LEASE_S - (clock() - other.creation_time / 1000)
            if left > 0 and other.tags.get(_CAUSE) == cause:
                # The same is done by another process, or was by one that was killed; either has an end.
                time.sleep(_POLL_S)
                break
            if left > 0:
                who, what = other.tags.get(_HOLDER, "somebody"), other.tags.get(_CAUSE, "for an unknown cause")
                raise InputError(
                    f"{who} is changing the aliases of {name!r} ({what}); run this again when that has ended, in "
                    f"{left:.0f} s at the latest"
                )


def _made(client: MlflowClient, title: str, cause: str) -> str | None:
    """A new experiment's id; None where its name is taken, also by a deleted one."""
    try:
        return str(client.create_experiment(title, tags={_CAUSE: cause, _HOLDER: holder()}))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return None


def _changes(client: MlflowClient, name: str) -> int:
    return int(client.get_registered_model(name).tags.get(CHANGES_TAG, "0"))
