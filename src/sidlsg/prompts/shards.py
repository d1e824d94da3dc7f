"""Parquet shards of curated prompts: how they are laid out, written and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.prompts.source import Prompt

SCHEMA = pa.schema(
    [("id", pa.int64()), ("text", pa.string()), ("source_row", pa.int64()), ("score", pa.float32())],
)
"""`id` counts from 0 over all shards, in the set's order; `source_row` and `score` say where a prompt came from."""

ROW_GROUP = 8192
"""Rows a row group. Fixed, because the file's bytes depend on it."""


def write_shards(prompts: Sequence[Prompt], folder: Path, rows_per_shard: int) -> list[Path]:
    """Write `00000.parquet`, `00001.parquet`, … and return them in order; equal prompts give equal bytes."""
    folder.mkdir(parents=True)
    paths = []
    for number, start in enumerate(range(0, len(prompts), rows_per_shard)):
        part = prompts[start : start + rows_per_shard]
        columns = [
            range(start, start + len(part)),
            [p.text for p in part],
            [p.source_row for p in part],
            [p.score for p in part],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
        path = folder / f"{number:05}.parquet"
        pq.write_table(
            pa.table(arrays, schema=SCHEMA),
            path,
            row_group_size=ROW_GROUP,
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        )
        paths.append(path)
    return paths


def read_texts(shard: Path) -> list[str]:
    """The texts of one shard, in order."""
    with pq.ParquetFile(shard) as table:
        texts: list[str] = table.read(columns=["text"]).column("text").to_pylist()
    return texts
