"""Parquet shards of curated prompts: schema, writing and reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import PromptSet

if TYPE_CHECKING:
    import polars as pl  # which training does not need

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("score", pa.float32()),
        ("source", pa.string()),
    ]
)
"""`id` counts from 0 over all shards; `tokens` are CLIP's, without start and end; `score` is null where the source has
none."""
ORIGINS = pa.schema([("id", pa.int64()), ("file", pa.string()), ("row", pa.int64()), ("copies", pa.int32())])
"""Origins of the prompts, apart from the shards, which do not depend on how a source is cut into files. `row` is as in
`Piece`; `copies` is the number of rows with the text."""
ROW_GROUP = 8192
"""Rows of a row group; a file's bytes depend on it."""


def shard_name(number: int) -> str:
    """A shard's file name."""
    return f"{number:05}.parquet"


def write_table(table: pl.DataFrame, schema: pa.Schema, path: Path) -> None:
    """Write a table with fixed options, so that equal tables give equal bytes."""
    arrow = table.to_arrow()
    columns = [arrow.column(field.name).cast(field.type).combine_chunks() for field in schema]
    pq.write_table(
        pa.table(columns, schema=schema),
        path,
        row_group_size=ROW_GROUP,
        compression="zstd",
        use_dictionary=[name for name in ("source", "file") if name in schema.names],
        write_page_checksum=True,
    )


def read_texts(shard: Path) -> list[str]:
    """The texts of one shard, in order."""
    with pq.ParquetFile(shard) as table:
        texts: list[str] = table.read(columns=["text"]).column("text").to_pylist()
    return texts


def read_prompts(folder: Path) -> list[str]:
    """The texts of a prompt set in order; a text's index is its `id`.

    Raises:
        InputError: there is no record, a shard is missing, changed or elsewhere, or the count is wrong.
    """
    return list(iter_prompts(folder))


def iter_prompts(folder: Path) -> Iterator[str]:
    """The same texts one by one, with one shard in memory; all shards are checked before the first text.

    Raises:
        InputError: as `read_prompts`; for a wrong count after the last text.
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
