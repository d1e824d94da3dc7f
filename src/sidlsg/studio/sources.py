"""Where the page's student and teacher come from: a run, a folder, S3, or the registry."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object
from sidlsg.stages.run_request import MARKER, run_store
from sidlsg.storage.records import FileRef, Student
from sidlsg.storage.store import S3
from sidlsg.storage.uri import BUNDLED, TEACHERS, open_store, resolve, split_pin
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.source import checked_teacher

MODELS = "models:/"
"""Begins a registered version, as MLflow names it."""
_VERSION = re.compile(rf"(?:{MODELS})?(?P<name>[^/@:]+)[/@](?P<which>[^/@:]+)")
ALLOWED = (
    f"give the folder of a run or of a student, {S3}BUCKET/KEY@sha256:DIGEST, or a registered version as "
    f"{MODELS}NAME@ALIAS or {MODELS}NAME/NUMBER"
)


@dataclass(frozen=True, kw_only=True)
class FoundStudent:
    """A student whose files were checked against its record."""

    name: str
    """As the user gave it."""
    folder: Path
    record: Student
    run: Mapping[str, Any]
    """The request of the run that it is in; empty for any other student."""
    run_dir: Path
    """The run's folder; without a run, it means nothing."""

    @property
    def grids(self) -> list[FileRef]:
        """The training's sample grids in the folder, the earliest first; a copy on S3 comes without."""
        there = [ref for ref in self.record.grids if "://" not in ref.path and (self.folder / ref.path).is_file()]
        return sorted(there, key=lambda ref: ref.path)

    @property
    def tracking_uri(self) -> str:
        """The run's MLflow; empty without a run."""
        return (self.run.get("tracking_uri") or run_store(self.run_dir)) if self.run else ""


def find_student(given: str, tracking_uri: str, scratch: Path) -> FoundStudent:
    """The student of a run's folder, a student's folder, a URI on S3 or a registered version.

    Args:
        given: the folder, URI or `models:/NAME@ALIAS`.
        tracking_uri: of the registry; only a version needs it.
        scratch: folder that receives a version's files.

    Raises:
        InputError: there is no such student, or its files are not those of its record.
        StorageError: a server failed.
    """
    if given.startswith(MODELS):
        return find_version(given, tracking_uri, scratch)
    bare, _ = split_pin(given)
    if not bare.startswith((S3, BUNDLED)) and not Path(bare).expanduser().is_dir():
        raise InputError(f"there is no folder {bare}; {ALLOWED}")
    folder = resolve(given, folder=DIFFUSERS)
    if not bare.startswith(S3):
        inner = folder / "student"
        folder = folder if (folder / Student.FILE).is_file() or not inner.is_dir() else inner
        return _checked(given, folder, Student.load(folder))
    # A model's format leaves out the record.
    with tempfile.TemporaryDirectory(dir=scratch) as fetched:
        parent, _, name = bare.rstrip("/").rpartition("/")
        open_store(parent, check=False).get(f"{name}/{Student.FILE}", Path(fetched) / Student.FILE)
        return _checked(given, folder, Student.load(Path(fetched)))


def find_version(given: str, tracking_uri: str, scratch: Path) -> FoundStudent:
    """The student of `NAME@ALIAS` or `NAME/NUMBER`, downloaded once; raises as `find_student`."""
    matched = _VERSION.fullmatch(given.strip())
    if matched is None:
        raise InputError(f"{given!r} is no registered version; give NAME@ALIAS or NAME/NUMBER, as sidlsg-tiny@champion")
    if not tracking_uri:
        raise InputError(
            f"{given} is in a registry, and none is given; give --tracking-uri, or set MLFLOW_TRACKING_URI"
        )
    # Imported here: MLflow takes seconds, and a folder does not need it.
    from sidlsg.registry.files import fetch_student
    from sidlsg.registry.versions import find_version as find

    version = find(tracking_uri, matched["name"], matched["which"])
    folder = scratch / version.student_sha256
    if not folder.is_dir():
        fetch_student(version, tracking_uri, folder)
    return _checked(given, folder, Student.load(folder))


def _checked(name: str, folder: Path, record: Student) -> FoundStudent:
    record.verify_files(folder, record.model)
    run_dir = folder.absolute().parent
    marker = run_dir / MARKER
    run = read_object(marker, "give the student's own folder").get("request", {}) if marker.is_file() else {}
    found = FoundStudent(name=name, folder=folder, record=record, run=run, run_dir=run_dir)
    record.verify_files(folder, found.grids)
    return found


def find_teacher(given: str, student: FoundStudent, layout: str = "", variant: str = "") -> tuple[Path, str]:
    """The folder of a student's teacher, and its digest.

    Args:
        given: the teacher's URI; empty for that of the student's run, or else a bundled one.
        student: whose record names its teacher by digest.
        layout: as of `checked_teacher`; so is `variant`.

    Raises:
        InputError: the teacher cannot be used, or is not the student's.
    """
    run = {} if given else student.run
    named = given or run.get("teacher", "")
    wanted = student.record.teacher_sha256
    for uri in [named] if named else TEACHERS:
        folder, sha256 = checked_teacher(
            uri,
            layout=layout or run.get("teacher_layout", ""),
            variant=variant or run.get("variant", ""),
        )
        sha256 = sha256 or folder_digest(folder)
        if sha256 == wanted:
            return folder, sha256
    known = f"{given} is {sha256[:16]}…" if given else "it is not known where that is"
    raise InputError(
        f"{student.name} was distilled from the teacher {wanted[:16]}…, and {known}; give that teacher's folder or URI "
        "as TEACHER"
    )
