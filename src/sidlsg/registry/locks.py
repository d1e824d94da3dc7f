"""One process at a time for a thing in the registry, though MLflow has neither locks nor compare-and-set.

What MLflow does keep unique, in every store, is the name of an experiment. So whoever makes the experiment
`sidlsg-claims/THING.ATTEMPT` may go ahead, and everybody else waits or is told who that is. While the holder works, it
writes a beat into a tag; where that stays the same for a while, the holder is dead, and the next attempt is free.
At the end the experiment is deleted, which keeps its name.
"""

from __future__ import annotations

import getpass
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.versions import pages
from sidlsg.runtime.errors import InputError

FOLDER = "sidlsg-claims"
"""Begins the names of the experiments."""
BEAT_S = 2.0
"""How often a holder writes that it lives."""
PATIENCE_S = 20.0
"""How long a beat may stay the same: a network's hiccup is no death."""
_POLL_S = 0.3
_CAUSE, _HOLDER, _BEAT, _TOKEN = "cause", "holder", "beat", "token"


class Lock:
    """The right to go ahead."""

    def __init__(self, client: MlflowClient, thing: str, attempt: int, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self.thing, self.attempt = thing, attempt
        self._lived = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that it still holds, before what cannot be taken back.

        Raises:
            InputError: others may take this process for dead, and have gone ahead.
        """
        gone = self._client.get_experiment(self._experiment_id).lifecycle_stage == "deleted"
        if gone or time.monotonic() - self._lived > PATIENCE_S / 2:
            raise InputError(f"{self.thing}: the registry did not hear from this process for too long; run it again")

    def end(self) -> None:
        """Let others go ahead."""
        self._over.set()
        # A beat on its way to a server that is away may take minutes.
        self._thread.join(2 * BEAT_S)
        try:
            self._client.delete_experiment(self._experiment_id)
        except MlflowException:
            # It is gone already, or the server is away: then the beat ends, which says the same.
            return

    def _live(self) -> None:
        for beat in count(1):
            if self._over.wait(BEAT_S):
                return
            try:
                self._client.set_experiment_tag(self._experiment_id, _BEAT, str(beat))
                self._lived = time.monotonic()
            except MlflowException:
                # The next beat may get through; `check` knows how long none has.
                continue


@contextmanager
def locked(client: MlflowClient, thing: Callable[[], str | None], cause: str) -> Iterator[Lock | None]:
    """Keep others away from a thing while the block runs.

    Args:
        client: of the registry.
        thing: asked as often as others went ahead: the thing's name now, None where there is nothing left to do.
        cause: what for. Where another process is there for the same cause, this one waits for its end.

    Yields:
        The claim; None where there is nothing left to do.

    Raises:
        InputError: another process is there, for another cause.
    """
    claim = _claim(client, thing, cause)
    try:
        yield claim
    finally:
        if claim is not None:
            claim.end()


def locks_on(client: MlflowClient, name: str) -> list[Any]:
    """The experiments that are claims on things of a model, those of the dead too."""
    return pages(client.search_experiments, filter_string=f"name LIKE '{FOLDER}/{name}/%'")


def dead_locks(client: MlflowClient, name: str) -> list[Any]:
    """The experiments of claims on things of a model whose holders are dead; waits to see, where there are claims."""
    before = {claim.experiment_id: claim.tags.get(_BEAT) for claim in locks_on(client, name)}
    if not before:
        return []
    time.sleep(PATIENCE_S)
    missing = object()
    return [
        claim for claim in locks_on(client, name) if before.get(claim.experiment_id, missing) == claim.tags.get(_BEAT)
    ]


def holder() -> str:
    """Who this is, for the audit trail: the user and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _claim(client: MlflowClient, thing: Callable[[], str | None], cause: str) -> Lock | None:
    attempt, last = 0, ""
    while (name := thing()) is not None:
        attempt, last = (attempt if name == last else 0), name
        made = _made(client, f"{FOLDER}/{name}.{attempt}", cause)
        if made is None:
            _await(client, f"{FOLDER}/{name}.{attempt}", name, cause)
            attempt += 1
            continue
        claim = Lock(client, name, attempt, made)
        mine = False
        try:
            # Others may have gone ahead, and their experiment been purged, between our two questions.
            mine = thing() == name
        finally:
            if not mine:
                claim.end()
        if mine:
            return claim
    return None


def _made(client: MlflowClient, title: str, cause: str) -> str | None:
    """A new experiment's id; None where its name is taken, also by a deleted one."""
    token = secrets.token_hex(8)
    try:
        return str(client.create_experiment(title, tags={_CAUSE: cause, _HOLDER: holder(), _TOKEN: token}))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # MLflow's client repeats a request whose answer got lost: then it is this process's own.
    found = client.get_experiment_by_name(title)
    return str(found.experiment_id) if found is not None and found.tags.get(_TOKEN) == token else None


def _await(client: MlflowClient, title: str, thing: str, cause: str) -> None:
    """Wait until the holder of a claim has ended or died.

    Raises:
        InputError: it lives, and has another cause.
    """
    first: Any = None
    since = time.monotonic()
    while True:
        other: Any = client.get_experiment_by_name(title)
        if other is None or other.lifecycle_stage == "deleted":
            return
        beat = (other.experiment_id, other.tags.get(_BEAT))
        first = first or beat
        if beat != first and other.tags.get(_CAUSE) != cause:
            who, what = other.tags.get(_HOLDER, "somebody"), other.tags.get(_CAUSE, "an unknown cause")
            raise InputError(f"{who} is at work on {thing} ({what}); run this again when that has ended")
        if beat != first:
            first, since = beat, time.monotonic()
        if time.monotonic() - since > PATIENCE_S:
            return
        time.sleep(_POLL_S)
