"""Locks on things in the registry, across processes and machines, though MLflow has neither locks nor compare-and-set.

What every MLflow store keeps unique is the name of an experiment. Whoever creates the experiment
`sidlsg-claims/THING.ATTEMPT` holds the lock; the others wait, or raise an error that names the holder. The holder
updates a heartbeat tag while it works. A heartbeat that stops means a dead holder, and the next attempt's number is
free. Releasing the lock deletes the experiment, which keeps its name reserved.
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

from sidlsg.registry.connection import EXISTS
from sidlsg.registry.versions import pages
from sidlsg.runtime.errors import InputError

FOLDER = "sidlsg-claims"
"""Prefix of the experiments' names."""
HEARTBEAT_S = 2.0
PATIENCE_S = 20.0
"""Seconds without a heartbeat after which a holder counts as dead; longer than a network's hiccup."""
_POLL_S = 0.3
_CAUSE, _HOLDER, _BEAT, _TOKEN = "cause", "holder", "beat", "token"


class Lock:
    """A lock that this process holds; a thread writes its heartbeat."""

    def __init__(self, client: MlflowClient, thing: str, attempt: int, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self.thing, self.attempt = thing, attempt
        self._last_beat = time.monotonic()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise InputError if others may take this process for dead; call it before a step that cannot be undone."""
        gone = self._client.get_experiment(self._experiment_id).lifecycle_stage == "deleted"
        if gone or time.monotonic() - self._last_beat > PATIENCE_S / 2:
            raise InputError(f"{self.thing}: the registry did not hear from this process for too long; run it again")

    def release(self) -> None:
        """Let others go ahead."""
        self._released.set()
        # A heartbeat on its way to a server that is away may take minutes.
        self._thread.join(2 * HEARTBEAT_S)
        try:
            self._client.delete_experiment(self._experiment_id)
        except MlflowException:
            return  # already gone, or the server is away: then the missing heartbeat frees the lock

    def _beat(self) -> None:
        for beat in count(1):
            if self._released.wait(HEARTBEAT_S):
                return
            try:
                self._client.set_experiment_tag(self._experiment_id, _BEAT, str(beat))
                self._last_beat = time.monotonic()
            except MlflowException:
                continue  # the next one may get through; `check` knows how long none has


@contextmanager
def locked(client: MlflowClient, thing: Callable[[], str | None], cause: str) -> Iterator[Lock | None]:
    """Lock a thing while the block runs, after waiting for a holder with the same cause.

    `thing` returns the thing's name now, or None where there is nothing left to do; then the lock is None.

    Raises:
        InputError: another process holds the lock for another cause.
    """
    lock = _acquire(client, thing, cause)
    try:
        yield lock
    finally:
        if lock is not None:
            lock.release()


def locks_on(client: MlflowClient, name: str) -> list[Any]:
    """The experiments that lock things of a model, those of dead holders included."""
    return pages(client.search_experiments, filter_string=f"name LIKE '{FOLDER}/{name}/%'")


def dead_locks(client: MlflowClient, name: str) -> list[Any]:
    """The locks on things of a model whose holders are dead; waits for heartbeats where there are locks."""
    before = {lock.experiment_id: lock.tags.get(_BEAT) for lock in locks_on(client, name)}
    if not before:
        return []
    time.sleep(PATIENCE_S)
    return [
        lock
        for lock in locks_on(client, name)
        if lock.experiment_id in before and before[lock.experiment_id] == lock.tags.get(_BEAT)
    ]


def holder() -> str:
    """This process's user and machine, for the audit trail."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _acquire(client: MlflowClient, thing: Callable[[], str | None], cause: str) -> Lock | None:
    attempt, last = 0, ""
    while (name := thing()) is not None:
        attempt, last = (attempt if name == last else 0), name
        title = f"{FOLDER}/{name}.{attempt}"
        experiment_id = _create(client, title, cause)
        if experiment_id is None:
            _wait(client, title, name, cause)
            attempt += 1
            continue
        lock = Lock(client, name, attempt, experiment_id)
        still = False
        try:
            # Others may have gone ahead, and their experiment been purged, between the two questions.
            still = thing() == name
        finally:
            if not still:
                lock.release()
        if still:
            return lock
    return None


def _create(client: MlflowClient, title: str, cause: str) -> str | None:
    """A new experiment's id; None where its name is taken, even by a deleted one."""
    token = secrets.token_hex(8)
    try:
        return str(client.create_experiment(title, tags={_CAUSE: cause, _HOLDER: holder(), _TOKEN: token}))
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise
    # MLflow's client repeats a request whose answer got lost: then it is this process's own.
    found = client.get_experiment_by_name(title)
    return str(found.experiment_id) if found is not None and found.tags.get(_TOKEN) == token else None


def _wait(client: MlflowClient, title: str, thing: str, cause: str) -> None:
    """Wait until the lock's holder has released it or died; InputError if it lives and has another cause."""
    first: Any = None
    since = time.monotonic()
    while True:
        other: Any = client.get_experiment_by_name(title)
        if other is None or other.lifecycle_stage == "deleted":
            return
        beat = (other.experiment_id, other.tags.get(_BEAT))
        first = first or beat
        if beat != first:
            if other.tags.get(_CAUSE) != cause:
                who, what = other.tags.get(_HOLDER, "somebody"), other.tags.get(_CAUSE, "an unknown cause")
                raise InputError(f"{who} is at work on {thing} ({what}); run this again when that has ended")
            first, since = beat, time.monotonic()
        # Only after a look: this process may have slept itself.
        if time.monotonic() - since > PATIENCE_S:
            return
        time.sleep(_POLL_S)
