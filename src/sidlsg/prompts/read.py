"""Reading a `PromptSet` back: its texts, checked against its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sidlsg.prompts.shards import read_texts
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import PromptSet


def read_prompts(folder: Path) -> list[str]:
    """The texts of a prompt set in its order; the position of a text is its `id`.

    Raises:
        InputError: there is no record, a shard is missing, changed or elsewhere, or the count is wrong.
    """
    return list(iter_prompts(folder))


def iter_prompts(folder: Path) -> Iterator[str]:
    """The same texts one after the other, with one shard in memory; all shards are checked before the first text.

    Raises:
        InputError: as `read_prompts`; a wrong count is told after the last text.
    """
    record = PromptSet.load(folder)
    record.verify(folder)
    remote = [shard.path for shard in record.shards if "://" in shard.path]
    if remote:
        raise InputError(f"shard {remote[0]} of {folder} is not on this machine; copy the whole prompt set here first")
    count = 0
    for shard in record.shards:
        texts = read_texts(folder / shard.path)
        count += len(texts)
        yield from texts
    if count != record.count:
        raise InputError(
            f"the shards of {folder} hold {count} prompts, but {PromptSet.FILE} says {record.count}; "
            "run the curate stage again"
        )
