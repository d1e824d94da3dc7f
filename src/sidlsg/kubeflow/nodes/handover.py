"""Where launcher and nodes meet: inputs go out and the student comes back, each file by its digest, digests last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sidlsg.kubeflow.nodes.order import Bundle, JobSpec
from sidlsg.runtime.errors import ContentError, SidlsgError
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import atomic_folder, require_digest, sha256_bytes, sha256_file
from sidlsg.storage.records import Student
from sidlsg.storage.store import S3, Store
from sidlsg.storage.uri import open_store

DIGESTS = "student/SHA256SUMS"
"""Written last: without it, there is no student."""
INPUTS = "inputs"
STUDENT = "student"


class Handover:
    """One job's own prefix or folder."""

    def __init__(self, place: str, create: bool = True) -> None:
        """Open it.

        Raises:
            InputError: the place cannot be used, or there is nothing there where nothing is to be made.
            StorageError: the server does not answer.
        """
        self.place = place
        self.store = open_store(place, create)

    def stage(self, parcel: Bundle, report: Callable[[str], None]) -> None:
        """Put inputs where nodes fetch them, the order last; a student of an earlier attempt counts no more."""
        self.store.delete([JobSpec.FILE, DIGESTS])
        digests = {ref.path: ref.sha256 for ref in parcel.order.inputs}
        size = sum(path.stat().st_size for path in parcel.files.values())
        report(f"{len(digests)} files of {size / 1e6:,.1f} MB go to {self.place}")
        for name, path in parcel.files.items():
            self.store.put(f"{INPUTS}/{name}", path, digests[name])
        self.store.write(JobSpec.FILE, parcel.order.to_json().encode())

    def order(self, sha256: str) -> JobSpec:
        """What is to be done.

        Raises:
            ContentError: there is none, or another one.
        """
        text = self.store.read(JobSpec.FILE)
        require_digest(f"{self.place}/{JobSpec.FILE}", sha256_bytes(text), sha256)
        return JobSpec.from_json(text.decode(), f"{self.place}/{JobSpec.FILE}")

    def fetch(self, order: JobSpec) -> Path:
        """All inputs in a folder of this machine's cache; of several processes that ask, one fetches.

        Raises:
            ContentError: a file is missing or is another.
        """
        kept = cache_folder() / "handover" / order.digest
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole = kept / ".whole"
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                for ref in order.inputs:
                    self.store.get(f"{INPUTS}/{ref.path}", kept / ref.path, ref.sha256)
                whole.touch()
        return kept

    def give(self, student: Path) -> None:
        """Upload a student's folder; one that is there is replaced, and is none while that goes on."""
        self.store.delete([DIGESTS])
        files = {path.relative_to(student).as_posix(): path for path in sorted(student.rglob("*")) if path.is_file()}
        digests = {name: sha256_file(path) for name, path in files.items()}
        for name, path in files.items():
            self.store.put(f"{STUDENT}/{name}", path, digests[name])
        self.store.write(DIGESTS, "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode())

    def withdraw(self) -> None:
        """Take the order away: a node that is restarted finds nothing to do, and says so."""
        self.store.delete([JobSpec.FILE])

    def has_student(self) -> bool:
        """Whether a whole one is there."""
        return DIGESTS in self.store.names(DIGESTS)

    def take(self, order: JobSpec, target: Path) -> Student:
        """Fetch the student into a folder, which appears when every digest was checked.

        Raises:
            ContentError: there is no whole student, or a file is another than was given.
            InputError: the student is not the one that was ordered.
        """
        lines = self.store.read(DIGESTS).decode().splitlines()
        digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        if Student.FILE not in digests:
            raise ContentError(f"{self.place}/{DIGESTS} names no {Student.FILE}; run the step again")
        with atomic_folder(target, Student.FILE) as folder:
            for name, digest in digests.items():
                self.store.get(f"{STUDENT}/{name}", folder / name, digest)
            student = Student.load(folder)
            student.verify(folder)
            order.check(student, self.place)
        return student

    def remove(self) -> None:
        """Delete all of it."""
        self.store.delete(self.store.names())
        if not self.place.startswith(S3):
            with contextlib.suppress(OSError):  # another writer's files
                Path(self.place).rmdir()


ALIVE = "alive"
"""The object that holds the number."""
BEAT_S = 60.0
SILENCE_S = 15 * 60.0
"""How long the number may stay the same: longer than a step takes to be started again on another machine."""


@contextlib.contextmanager
def beating(store: Store, every: float = BEAT_S) -> Iterator[None]:
    """Show in a store that this process lives while the block runs; the first sign is there when it begins."""
    ended = threading.Event()
    store.write(ALIVE, _sign())

    def beat() -> None:
        while not ended.wait(every):
            # The next one may get through, and many are missed before somebody acts.
            with contextlib.suppress(SidlsgError):
                store.write(ALIVE, _sign())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def watched(
    store: Store,
    report: Callable[[str], None],
    end: Callable[[], None],
    every: float = BEAT_S,
    silence: float = SILENCE_S,
) -> Iterator[None]:
    """End this process's training when the other side has been silent for long, while the block runs.

    What a server does not answer says nothing of the other side, and is no silence.

    Args:
        store: where the other side shows that it lives.
        report: receives the reason.
        end: called then.
        every: seconds between two looks.
        silence: seconds without a change.
    """
    ended = threading.Event()

    def look() -> None:
        seen, since = None, time.monotonic()
        while not ended.wait(every):
            try:
                found = store.read(ALIVE)
            except ContentError:
                found = b""  # taken away: the step is at its end
            except SidlsgError:
                since = time.monotonic()
                continue
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since >= silence:
                report(f"the step that waits for this training was not heard of for {silence / 60:g} minutes: it ends")
                end()
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sign() -> bytes:
    return f"{os.getpid()} {time.monotonic_ns()}\n".encode()
