"""A student's MLflow model as the triggers service copies it for serving."""

from __future__ import annotations

from pathlib import Path

from sidlsg.registry.package import save_model
from sidlsg.storage.files import SHA256SUMS, format_sha256sums, sha256_file
from sidlsg.storage.records import Student


def copied(student: Path, folder: Path) -> Path:
    """Write the copy to `folder`."""
    save_model(Student.load(student), student, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    (folder / SHA256SUMS).write_text(format_sha256sums(digests))
    return folder
