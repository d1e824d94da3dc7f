"""A job's staging area: inputs go to the nodes and the student comes back, each file by its digest, digests last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sidlsg.kubeflow.nodes.job_spec import Bundle, JobSpec
from sidlsg.runtime.errors import ContentError, SidlsgError
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import (
    SHA256SUMS,
    atomic_folder,
    format_sha256sums,
    parse_sha256sums,
    require_digest,
    sha256_bytes,
    sha256_file,
)
from sidlsg.storage.records import Student
from sidlsg.storage.store import S3, Store
from sidlsg.storage.uri import open_store

INPUTS, STUDENT = "inputs", "student"
DIGESTS = f"{STUDENT}/{SHA256SUMS}"
"""Written last: without it, the student is not complete."""


class Staging:
    """One job's own prefix or folder."""

    def __init__(self, uri: str, create: bool = True) -> None:
        """Open it.

        Raises:
            InputError: the URI cannot be used, or nothing exists there and `create` is False.
            StorageError: the server does not answer.
        """
        self.uri = uri
        self.store = open_store(uri, create)

    def upload_inputs(self, bundle: Bundle, report: Callable[[str], None]) -> None:
        """Upload the inputs, the job spec last. The student of an earlier attempt is no longer complete."""
        self.store.delete([JobSpec.FILE, DIGESTS])
        size = sum(path.stat().st_size for path in bundle.files.values())
        report(f"uploading {len(bundle.files)} files of {size / 1e6:,.1f} MB to {self.uri}")
        for ref in bundle.spec.inputs:
            self.store.put(f"{INPUTS}/{ref.path}", bundle.files[ref.path], ref.sha256)
        self.store.write(JobSpec.FILE, bundle.spec.to_json().encode())

    def job_spec(self, sha256: str) -> JobSpec:
        """The job spec with this digest.

        Raises:
            ContentError: it is missing, or has another digest.
        """
        text, uri = self.store.read(JobSpec.FILE), f"{self.uri}/{JobSpec.FILE}"
        require_digest(uri, sha256_bytes(text), sha256)
        return JobSpec.from_json(text.decode(), uri)

    def download_inputs(self, spec: JobSpec) -> Path:
        """A folder with all inputs in this machine's cache; of several processes, one downloads them.

        Raises:
            ContentError: a file is missing or has another digest.
        """
        folder = cache_folder() / "handover" / spec.digest
        folder.parent.mkdir(parents=True, exist_ok=True)
        complete = folder / ".whole"
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                for ref in spec.inputs:
                    self.store.get(f"{INPUTS}/{ref.path}", folder / ref.path, ref.sha256)
                complete.touch()
        return folder

    def upload_student(self, folder: Path) -> None:
        """Upload a student's folder in place of an earlier one."""
        self.store.delete([DIGESTS])
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        digests = {name: sha256_file(path) for name, path in files.items()}
        for name, path in files.items():
            self.store.put(f"{STUDENT}/{name}", path, digests[name])
        self.store.write(DIGESTS, format_sha256sums(digests).encode())

    def has_student(self) -> bool:
        """Whether a complete student exists."""
        return DIGESTS in self.store.names(DIGESTS)

    def download_student(self, spec: JobSpec, target: Path) -> Student:
        """Download the student to a folder, which appears once every digest was checked.

        Raises:
            ContentError: the student is not complete, or a file has another digest.
            InputError: the student is not the one that the job spec describes.
        """
        uri = f"{self.uri}/{DIGESTS}"
        digests = parse_sha256sums(self.store.read(DIGESTS).decode(), uri)
        if Student.FILE not in digests:
            raise ContentError(f"{uri} does not list {Student.FILE}; run the step again")
        with atomic_folder(target, Student.FILE) as folder:
            for name, digest in digests.items():
                self.store.get(f"{STUDENT}/{name}", folder / name, digest)
            student = Student.load(folder)
            student.verify(folder)
            spec.check(student, self.uri)
        return student

    def withdraw(self) -> None:
        """Delete the job spec: a node that is restarted fails at once for the lack of it."""
        self.store.delete([JobSpec.FILE])

    def remove(self) -> None:
        """Delete everything."""
        self.store.delete(self.store.names())
        if not self.uri.startswith(S3):
            with contextlib.suppress(OSError):  # another writer's files
                Path(self.uri).rmdir()


HEARTBEAT = "alive"
"""The object that changes with each heartbeat."""
HEARTBEAT_S = 60.0
SILENCE_S = 15 * 60.0
"""How long the heartbeat may be missing: longer than it takes to start the step again on another machine."""


@contextlib.contextmanager
def heartbeat(store: Store, every: float = HEARTBEAT_S) -> Iterator[None]:
    """Write a heartbeat to a store while the block runs; the first one exists when it begins."""

    def beat() -> None:
        store.write(HEARTBEAT, f"{os.getpid()} {time.monotonic_ns()}\n".encode())

    def try_to_beat() -> bool:
        # The next one may get through, and many must be missing before training ends.
        with contextlib.suppress(SidlsgError):
            beat()
        return True

    beat()
    with _repeated(try_to_beat, every):
        yield


@contextlib.contextmanager
def heartbeat_watched(
    store: Store,
    report: Callable[[str], None],
    end: Callable[[], None],
    every: float = HEARTBEAT_S,
    silence: float = SILENCE_S,
) -> Iterator[None]:
    """End this process's training if the heartbeat is missing for long while the block runs.

    A store that does not answer is not a missing heartbeat. It is checked every `every` seconds; after `silence`
    seconds without a change, `report` gets the reason, and `end` is called.
    """
    seen, since = None, time.monotonic()

    def check() -> bool:
        nonlocal seen, since
        try:
            found = store.read(HEARTBEAT)
        except ContentError:
            found = b""  # deleted: the step is ending
        except SidlsgError:
            since = time.monotonic()
            return True
        if found != seen:
            seen, since = found, time.monotonic()
        elif time.monotonic() - since >= silence:
            report(f"no heartbeat of the step that waits for this training for {silence / 60:g} minutes: it ends")
            end()
            return False
        return True

    with _repeated(check, every):
        yield


@contextlib.contextmanager
def _repeated(call: Callable[[], bool], every: float) -> Iterator[None]:
    """Call a function every so many seconds, in a thread, until it returns False or the block ends."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every) and call():
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
