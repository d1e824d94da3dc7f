"""A student's MLflow model as the triggers service copies it for serving."""

from __future__ import annotations

from pathlib import Path

from sidlsg.registry.package import save_model
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import Student


def copied(student: Path, folder: Path) -> Path:
    """Write the copy to `folder`."""
    save_model(Student.load(student), student, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums)
    return folder
