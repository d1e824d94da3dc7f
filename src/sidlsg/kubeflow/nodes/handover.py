"""Where launcher and nodes meet: inputs go out and the student comes back, each file by its digest, digests last."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable
from pathlib import Path

from sidlsg.kubeflow.nodes.order import Order, Parcel
from sidlsg.runtime.errors import ContentError
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import atomic_folder, require_digest, sha256_bytes, sha256_file
from sidlsg.storage.records import Student
from sidlsg.storage.store import S3, open_store

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

    def stage(self, parcel: Parcel, report: Callable[[str], None]) -> None:
        """Put inputs where nodes fetch them, the order last; a student of an earlier attempt counts no more."""
        self.store.delete([Order.FILE, DIGESTS])
        digests = {ref.path: ref.sha256 for ref in parcel.order.inputs}
        size = sum(path.stat().st_size for path in parcel.files.values())
        report(f"{len(digests)} files of {size / 1e6:,.1f} MB go to {self.place}")
        for name, path in parcel.files.items():
            self.store.put(f"{INPUTS}/{name}", path, digests[name])
        self.store.write(Order.FILE, parcel.order.to_json().encode())

    def order(self, sha256: str) -> Order:
        """What is to be done.

        Raises:
            ContentError: there is none, or another one.
        """
        text = self.store.read(Order.FILE)
        require_digest(f"{self.place}/{Order.FILE}", sha256_bytes(text), sha256)
        return Order.from_json(text.decode(), f"{self.place}/{Order.FILE}")

    def fetch(self, order: Order) -> Path:
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
        self.store.delete([Order.FILE])

    def has_student(self) -> bool:
        """Whether a whole one is there."""
        return DIGESTS in self.store.names(DIGESTS)

    def take(self, order: Order, target: Path) -> Student:
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
