"""Parquet files as sources: opened with every error named, and read in the columns that the rules want."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.columns import NUMBERS, is_needless, match_columns, require_columns, wrong_kind
from sidlsg.prompts.source.damage import damage_named, damaged
from sidlsg.prompts.source.inputs import MAGIC, PARQUET, InputFile

_BATCH_BYTES = 256 << 20
"""Bytes of rows that a batch holds at most, as far as a row group's average over all columns says it."""
_BUFFER = 8 << 20
"""Bytes that are read of a column at once, so that a large row group is not in memory as a whole."""


@contextlib.contextmanager
def opened(path: Path, file: InputFile) -> Iterator[Any]:
    """Open a parquet file; what goes wrong in the block, too, is raised as an error that names it.

    Raises:
        InputError: it is missing, not parquet, truncated or damaged.
        StorageError: the disk or the network did not give it.
    """
    with damage_named(file, PARQUET):
        with path.open("rb") as content:
            if content.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{file.place} is not a parquet file; give parquet, or name it by what it is")
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=_BUFFER) as table:
            # No checksum covers the footer, and Arrow reads as many rows as it says.
            found, said = sum(row_counts(table)), table.metadata.num_rows
            if found != said:
                raise damaged(file, PARQUET, f"its row groups have {found:,} rows, and the whole has {said:,}")
            yield table


def row_counts(table: Any) -> list[int]:
    """How many rows each row group has."""
    return [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]


def table_columns(table: Any, file: InputFile, rules: CurationRules) -> dict[str, str]:
    """Which column each wanted meaning has, where all that the rules need are there and of a kind that fits.

    Raises:
        InputError: one is missing, twice there, or holds something else.
    """
    schema = table.schema_arrow
    columns = match_columns(schema.names, file, rules)
    require_columns(columns.keys(), file, rules, schema.names)
    for meaning, name in list(columns.items()):
        type_ = schema.field(name).type
        if is_number(type_) if meaning in NUMBERS else is_text(type_):
            continue
        if not is_needless(meaning, rules):
            raise wrong_kind(name, meaning, str(type_), file, schema.names)
        del columns[meaning]
    return columns


def table_batches(
    table: Any, columns: Mapping[str, str], start: int, stop: int, batch_rows: int
) -> Iterator[Mapping[str, Any]]:
    """Read some row groups in order, as an Arrow array for each meaning."""
    names = sorted(set(columns.values()))
    groups = range(start, stop)
    rows = _rows_at_once(table.metadata, groups, batch_rows)
    # Pieces are read side by side already.
    for batch in table.iter_batches(batch_size=rows, row_groups=list(groups), columns=names, use_threads=False):
        yield {meaning: batch.column(name) for meaning, name in columns.items()}


def is_text(type_: Any) -> bool:
    """Whether a column of this type can hold texts; null stands for one in which every row is."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    bytes_ = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_(plain) for is_ in kinds + bytes_)


def is_number(type_: Any) -> bool:
    """Whether a column of this type holds numbers; null stands for one in which every row is."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(is_(plain) for is_ in kinds)


def _rows_at_once(metadata: Any, groups: range, most: int) -> int:
    widest = 1.0
    for group in groups:
        # Not that of the text column alone: Arrow ends the whole process where a damaged file's entry for a column
        # is asked for like this.
        found = metadata.row_group(group)
        widest = max(widest, found.total_byte_size / max(1, found.num_rows))
    return max(1, min(most, int(_BATCH_BYTES / widest)))
