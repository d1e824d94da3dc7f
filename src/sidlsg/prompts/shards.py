"""Parquet shards of curated prompts: how they are laid out, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import polars as pl  # training reads shards and does without

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("score", pa.float32()),
        ("source", pa.string()),
    ]
)
"""`id` counts from 0 over all shards, in the set's order; `tokens` are CLIP's, without its start and end; `score` is
null where the source has none; `source` is the name of the source."""
ORIGINS = pa.schema([("id", pa.int64()), ("file", pa.string()), ("row", pa.int64()), ("copies", pa.int32())])
"""Where each prompt came from, apart from the shards, which do not depend on how a source is cut into files. `row` is
the row of a parquet file, or the byte at which a line of text begins; `copies` says how many rows had the text."""

ROW_GROUP = 8192
"""Rows a row group. Fixed, because the file's bytes depend on it."""


def shard_name(number: int) -> str:
    """A shard's file name."""
    return f"{number:05}.parquet"


def write_table(table: pl.DataFrame, schema: pa.Schema, path: Path) -> None:
    """Write a table in the project's one way: equal tables give equal bytes."""
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
