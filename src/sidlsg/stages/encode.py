"""The `encode` stage: writes the text embeddings of a prompt set once, within a disk budget."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.storage.files import WORK_MARK, atomic_folder, folder_lock, put_in_place, refuse_foreign, refuse_inside
from sidlsg.storage.records import EmbeddingSet, PromptSet
from sidlsg.teacher import NUMERICS
from sidlsg.teacher.families.family import STATES
from sidlsg.teacher.folder import check_folder, conditioning_shapes, text_encoder_digest

BYTES = {"float16": 2, "float32": 4}
"""Bytes per number, by dtype."""
GB = 1e9
_DIGITS = 16


def encode(
    prompts: Path, teacher: Path, output: Path, dtype: str, disk_budget_gb: float, report: Callable[[str], None]
) -> EmbeddingSet:
    """Write the text embeddings of all prompts, or only a record, which leaves encoding to training.

    After a killed call, the same call resumes at the first missing shard; the result is the same.

    Args:
        prompts: folder of a PromptSet.
        teacher: folder of a family's pipeline with safetensors weights.
        output: becomes the folder of the EmbeddingSet.
        dtype: `float16` or `float32`, of the embeddings.
        disk_budget_gb: in 10⁹ bytes; a larger set is not written, and its record names no shards.
        report: receives lines for the user.

    Raises:
        InputError: an input or the output folder cannot be used, or the disk has too little room.
    """
    if dtype not in BYTES:
        raise InputError(f"dtype {dtype!r} is unknown{nearest(dtype, BYTES)}; allowed: {', '.join(BYTES)}")
    if not (math.isfinite(disk_budget_gb) and disk_budget_gb >= 0):
        raise InputError(f"disk budget {disk_budget_gb} is not a size; give 0 or more GB, 0 to encode during training")
    refuse_foreign(output, EmbeddingSet.FILE)
    refuse_inside(output, prompts=prompts, teacher=teacher)
    check_folder(teacher)
    prompt_set = PromptSet.load(prompts)
    shapes = conditioning_shapes(teacher)
    length, width = shapes[STATES]
    record = EmbeddingSet(
        prompts_sha256=prompt_set.digest,
        text_encoder_sha256=text_encoder_digest(teacher),
        dtype=dtype,
        count=prompt_set.count,
        shape=(length, width),
        more={name: shape for name, shape in shapes.items() if name != STATES},
        shards=(),
        uncond=None,
    )
    size = record.count * sum(map(math.prod, shapes.values())) * BYTES[dtype]
    needs = f"{record.count:,} text embeddings of {record.shape[0]} × {record.shape[1]} in {dtype} take {_gb(size)}"
    if size > disk_budget_gb * GB:
        report(f"{needs}, the budget is {disk_budget_gb:g} GB: prompts are encoded during training")
        with atomic_folder(output, EmbeddingSet.FILE) as folder:
            record.save(folder)
        return record

    report(needs)
    # Imported here: torch takes seconds, and most runs encode during training.
    from sidlsg.prompts.shards import iter_prompts
    from sidlsg.teacher.embeddings import write_shards

    # Only a call with the same inputs resumes an earlier one.
    key = hashlib.sha256(f"{record.digest}\n{NUMERICS}".encode()).hexdigest()
    with work_folder(output, key, EmbeddingSet.FILE) as folder:
        missing = size - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if missing > (free := shutil.disk_usage(folder).free):
            raise InputError(
                f"{output} needs {_gb(missing)} more, but its disk has {_gb(free)} free; free some, give another "
                "folder, or a smaller budget to encode during training"
            )
        record = write_shards(record, iter_prompts(prompts), teacher, folder, report)
        record.save(folder)
    return record


@contextlib.contextmanager
def work_folder(output: Path, key: str, marker: str) -> Iterator[Path]:
    """Yield the folder next to `output` with unfinished work of this key, or a new one; moved when the block ends.

    Work of other keys for the same output, and unfinished files, are deleted first. An InputError deletes work of which
    nothing is finished.

    Args:
        output: where the folder is moved at the end; an earlier output there is replaced.
        key: hex digest of everything that the content depends on.
        marker: a file name that an earlier output holds; anything else is not replaced.

    Raises:
        InputError: another process works on the same output, or the output holds something else.
    """
    refuse_foreign(output, marker)
    output = output.resolve()  # of a link, its target is replaced
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.parent / f".{output.name}.{key[:_DIGITS]}.work"
    pattern = re.compile(rf"\.{re.escape(output.name)}\.[0-9a-f]{{{_DIGITS}}}\.work")
    for other in sorted(output.parent.iterdir()):
        if pattern.fullmatch(other.name) and (other / WORK_MARK).is_file() and other != work:
            with folder_lock(other, f"another process is writing {output}"):
                shutil.rmtree(other)
    work.mkdir(exist_ok=True)
    with folder_lock(work, f"another process is writing {output}"):
        # Finished files were renamed; unfinished ones still have a temporary name. Work inside this work cleans itself.
        inner = {mark.parent for mark in work.rglob(WORK_MARK)} - {work}
        for path in sorted(work.rglob(".*"), reverse=True):
            if inner.isdisjoint((path, *path.parents)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (work / WORK_MARK).touch()
        try:
            yield work
        except InputError:
            if not any(work.rglob("*.safetensors")):  # a repeated call could resume at nothing
                shutil.rmtree(work)
            raise
        put_in_place(work, output)
        (output / WORK_MARK).unlink()


def _gb(size: float) -> str:
    return f"{size / GB:,.3g} GB" if size < 1000 * GB else f"{size / GB:,.0f} GB"
