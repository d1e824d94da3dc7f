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
from sidlsg.prompts.source.arrays import is_list, is_number, is_text, numbers_of
from sidlsg.prompts.source.columns import NUMBERS, is_needless, match_columns, require_columns, wrong_kind
from sidlsg.prompts.source.damage import damage_named, damaged
from sidlsg.prompts.source.inputs import MAGIC, PARQUET, InputFile

_BATCH_BYTES = 256 << 20
"""Bytes of rows that a batch holds at most, as far as a row group's average over all columns says it."""
_SAMPLE = 1000
"""Strings that show whether a column of them holds numbers."""
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
    kinds = {field.name: _kinds(field.type) for field in schema}
    require_columns(columns.keys(), file, rules, kinds)
    for meaning, name in list(columns.items()):
        type_ = schema.field(name).type
        if meaning in NUMBERS and is_text(type_):
            holds = "" if _begins_with_numbers(table, name) else "texts"
        else:
            fits = is_number(type_) if meaning in NUMBERS else is_text(type_) or (meaning == "text" and is_list(type_))
            holds = "" if fits else str(type_)
        if holds and not is_needless(meaning, rules):
            raise wrong_kind(name, meaning, holds, file, kinds)
        if holds:
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


def _kinds(type_: Any) -> str:
    """What a column can mean, see `require_columns`."""
    if pa.types.is_null(type_):
        return ""
    return " ".join(["strings"] * (is_text(type_) or is_list(type_)) + ["numbers"] * is_number(type_))


def _begins_with_numbers(table: Any, column: str) -> bool:
    """Whether some of the first strings are numbers, or none of them says anything."""
    first = next(table.iter_batches(_SAMPLE, columns=[column], use_threads=False), None)
    if first is None:
        return True
    values, is_misread = numbers_of(first.column(0))
    return bool(values.is_not_null().any()) or not is_misread.any()


def _rows_at_once(metadata: Any, groups: range, most: int) -> int:
    widest = 1.0
    for group in groups:
        # Not that of the text column alone: Arrow ends the whole process where a damaged file's entry for a column
        # is asked for like this.
        found = metadata.row_group(group)
        widest = max(widest, found.total_byte_size / max(1, found.num_rows))
    return max(1, min(most, int(_BATCH_BYTES / widest)))
