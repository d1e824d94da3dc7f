"""Reading a `PromptSet` back: its texts, checked against its record."""

from __future__ import annotations

from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.prompts.shards import read_texts
from sidlsg.records import PromptSet


def read_prompts(folder: Path) -> list[str]:
    """The texts of a prompt set in its order; the position of a text is its `id`.

    Raises:
        InputError: there is no record, a shard is missing, changed or elsewhere, or the count is wrong.
    """
    record = PromptSet.load(folder)
    record.verify(folder)
    remote = [shard.path for shard in record.shards if "://" in shard.path]
    if remote:
        raise InputError(f"shard {remote[0]} of {folder} is not on this machine; copy the whole prompt set here first")
    texts = [text for shard in record.shards for text in read_texts(folder / shard.path)]
    if len(texts) != record.count:
        raise InputError(
            f"the shards of {folder} hold {len(texts)} prompts, but {PromptSet.FILE} says {record.count}; "
            "run the curate stage again"
        )
    return texts
