"""The records that a student was made from, copied into its folder: the chain stays whole where it goes alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import EmbeddingSet, FileRef, PromptSet, Student, file_ref

FOLDER = "lineage"
"""Where a student's folder has them."""


def copy_records(prompts: Path, embeddings: Path | None, student: Path) -> tuple[FileRef, ...]:
    """Copy the records of a prompt set and, where there is one, of its text states into a student's folder."""
    (student / FOLDER).mkdir(exist_ok=True)
    sources = [prompts / PromptSet.FILE] + ([] if embeddings is None else [embeddings / EmbeddingSet.FILE])
    return tuple(file_ref(Path(shutil.copyfile(source, student / FOLDER / source.name)), student) for source in sources)


def copy_account(student: Path, target: Path) -> None:
    """Copy a student's records, training log, interim scores and sample grids, without its networks."""
    record = Student.load(student)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(student / Student.FILE, target / Student.FILE)
    prompts = prompt_set_of(record, student)
    if prompts is not None:
        prompts.save(target)
    for ref in record.account:
        if "://" in ref.path:
            continue
        (target / ref.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(student / ref.path, target / ref.path)


def prompt_set_of(student: Student, folder: Path) -> PromptSet | None:
    """The record of a student's prompt set; None where the student has none, as a converted one.

    Raises:
        InputError: what lies there is of another prompt set.
    """
    path = f"{FOLDER}/{PromptSet.FILE}"
    if path not in [ref.path for ref in student.lineage]:
        return None
    found = PromptSet.load(folder / path)
    if found.digest != student.prompts_sha256:
        raise InputError(
            f"{folder / path} is of prompt set {found.digest[:16]}, but the student of {student.prompts_sha256[:16]}; "
            "run the distil stage again"
        )
    return found
