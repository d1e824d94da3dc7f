"""A copied model's folder: every file is the one that was copied, or the model's code does not run."""

from __future__ import annotations

from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import SHA256SUMS, parse_sha256sums, sha256_file

STUDENT = "artifacts/student"
"""The student's diffusers folder inside the model's."""


def verify_copy(folder: Path) -> str:
    """Check every file of a copied model before any of its code runs.

    Args:
        folder: of the MLflow model, with its `SHA256SUMS`.

    Returns:
        Hex SHA-256 of `SHA256SUMS`, which names the copy.

    Raises:
        InputError: the folder is no complete copy, or a file is missing, differs, or is not listed.
    """
    sums = folder / SHA256SUMS
    if not sums.is_file():
        raise InputError(f"{folder} has no {SHA256SUMS}; give a folder that the triggers service copied a model to")
    listed = parse_sha256sums(sums.read_text(encoding="utf-8", errors="replace"), str(sums))
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SHA256SUMS}
    if unlike := sorted(present ^ set(listed)):
        state = "is not listed" if unlike[0] in present else "is missing"
        raise InputError(f"{folder / unlike[0]} {state} in {SHA256SUMS}; copy the model again")
    for name, digest in listed.items():
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name} differs from its digest in {SHA256SUMS}; copy the model again")
    return sha256_file(sums)
