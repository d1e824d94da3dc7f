"""Batches: the rows of a piece as frames of one shape, whatever the file's format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.columns import NUMBERS, STRINGS, require_columns
from sidlsg.prompts.source.damage import damaged
from sidlsg.prompts.source.inputs import PARQUET, TEXT, InputFile
from sidlsg.prompts.source.json_lines import object_columns, parse_lines
from sidlsg.prompts.source.lines import longest, read_lines
from sidlsg.prompts.source.parquet import opened, row_counts, table_batches, table_columns
from sidlsg.prompts.source.pieces import Piece

SCHEMA = pl.Schema(
    {
        "text": pl.String,
        "broken": pl.Boolean,
        "score": pl.Float64,
        "punsafe": pl.Float64,
        "watermark": pl.Float64,
        "similarity": pl.Float64,
        "width": pl.Float64,
        "height": pl.Float64,
        "nsfw": pl.String,
        "language": pl.String,
        "row": pl.UInt64,
    }
)
"""Of every batch. `text` is null where there is none or it is `broken`: not valid UTF-8, or on a line that is no JSON
object. Numbers are null where there is none, NaN or infinity, strings where they are not valid UTF-8. Columns that the
file lacks, or that no rule reads, are null. `row` identifies the row in its file, see `Piece`."""
BATCH_ROWS = 131_072
"""Rows of a batch at most."""


def read_batches(
    path: Path, file: InputFile, piece: Piece, rules: CurationRules, batch_rows: int = BATCH_ROWS
) -> Iterator[pl.DataFrame]:
    """Read the rows of a piece in order, one batch in memory at a time.

    Args:
        path: of the file's content, see `local_copy`.
        file: that the piece is of.
        piece: of it.
        rules: say which columns are read.
        batch_rows: at most so many rows in a batch; fewer where texts are very long.

    Yields:
        Frames of `SCHEMA` with at least one row.

    Raises:
        InputError: the file is missing, truncated or damaged, or does not have the columns that the rules need.
        StorageError: the disk or the network did not give it.
    """
    if file.format == PARQUET:
        yield from _parquet_batches(path, file, piece, rules, batch_rows)
        return
    for rows, lines in read_lines(path, file, piece.start, piece.stop, longest(rules)):
        for at in range(0, len(lines), batch_rows):
            some = slice(at, at + batch_rows)
            if file.format == TEXT:
                yield _frame({"text": pa.array(lines[some], pa.large_binary())}, rows[some])
            else:
                yield parse_lines(lines[some], rules, file).with_columns(row=rows[some]).select(SCHEMA.names())


def columns_of(path: Path, file: InputFile, rules: CurationRules) -> set[str]:
    """The meanings that a file has columns for, of those that the rules read; of jsonl its first objects say it.

    Raises:
        InputError: the file cannot be read, or lacks a column that the rules need, or one holds something else.
        StorageError: the disk or the network did not give it.
    """
    if file.format == PARQUET:
        with opened(path, file) as table:
            return set(table_columns(table, file, rules))
    if file.format == TEXT:
        require_columns({"text"}, file, rules)
        return {"text"}
    return object_columns(path, file, rules)


def check_file(path: Path, file: InputFile, rules: CurationRules) -> set[str]:
    """Check that a file can be opened and has the columns that the rules need; its rows are not read.

    Returns:
        The meanings that it has columns for, as `columns_of` says.

    Raises:
        InputError: it cannot be read, or lacks a column that the rules need, or one holds something else.
        StorageError: the disk or the network did not give it.
    """
    columns = columns_of(path, file, rules)
    if file.format == TEXT:
        next(read_lines(path, file, 0, 1, longest(rules)), None)
    return columns


def read_row(path: Path, file: InputFile, rules: CurationRules, row: int) -> pl.DataFrame:
    """Read one row, as a frame of `SCHEMA`.

    Args:
        path: of the file's content.
        file: that the row is in.
        rules: say which columns are read.
        row: its number in parquet, the byte offset of its line in text and jsonl.

    Raises:
        InputError: there is no such row, or the file cannot be read.
        StorageError: the disk or the network did not give it.
    """
    if file.format == PARQUET:
        with opened(path, file) as table:
            counts = row_counts(table)
        ends = list(itertools.accumulate(counts))
        total = ends[-1] if ends else 0
        group = next((group for group, end in enumerate(ends) if row < end), None)
        if row < 0 or group is None:
            has = f"its rows are 0 to {total - 1}" if total else "it has no rows"
            raise InputError(f"there is no row {row} in {file.place}; {has}")
        start, stop, first = group, group + 1, ends[group] - counts[group]
    else:
        start, stop, first = row, row + 1, -1
    if row >= 0:
        piece = Piece(file=0, start=start, stop=stop, rows=1, first_row=first)
        for frame in read_batches(path, file, piece, rules):
            found = frame.filter(pl.col("row") == row)
            if len(found):
                return found
    raise InputError(
        f"no row of {file.place} is at {row}; in text and jsonl a row is named by the byte offset at which its line "
        "starts, and blank lines are none"
    )


def _parquet_batches(
    path: Path, file: InputFile, piece: Piece, rules: CurationRules, batch_rows: int
) -> Iterator[pl.DataFrame]:
    with opened(path, file) as table:
        columns = table_columns(table, file, rules)
        row = piece.first_row
        stop = piece.stop or table.metadata.num_row_groups
        for arrays in table_batches(path, table, columns, piece.start, stop, batch_rows):
            count = len(arrays["text"])
            if count:
                yield _frame(arrays, np.arange(row, row + count, dtype=np.uint64))
            row += count
        expected = sum(row_counts(table)[piece.start : stop])
        if row - piece.first_row != expected:
            reason = f"{row - piece.first_row:,} rows were read where it says that there are {expected:,}"
            raise damaged(file, PARQUET, reason)


def _frame(arrays: Mapping[str, Any], rows: Any) -> pl.DataFrame:
    text, broken = _texts(arrays["text"])
    series = {"text": text, "broken": broken, "row": pl.Series(rows, dtype=pl.UInt64)}
    for meaning in STRINGS:
        if meaning in arrays:
            series[meaning], _ = _texts(arrays[meaning])
    for meaning in NUMBERS:
        if meaning in arrays:
            series[meaning] = _numbers(arrays[meaning])
    nulls = (pl.lit(None, type_).alias(name) for name, type_ in SCHEMA.items() if name not in series)
    return pl.DataFrame(series).with_columns(nulls).select(SCHEMA.names())


def _texts(array: Any) -> tuple[pl.Series, pl.Series]:
    """Strings, null where they are not valid UTF-8, and where that is."""
    raw = _raw(array)
    count = len(raw)
    # Arrow checks UTF-8 much faster than Python, but says only that something is wrong.
    try:
        valid = raw.view(pa.large_string())
        valid.validate(full=True)
    except pa.ArrowInvalid:
        values = raw.to_pylist()
        checked = [_decoded(value) for value in values]
        broken = [text is None and value is not None for text, value in zip(checked, values, strict=True)]
        return pl.Series(checked, dtype=pl.String), pl.Series(broken, dtype=pl.Boolean)
    return _series(valid, pl.String), pl.repeat(False, count, dtype=pl.Boolean, eager=True)


def _raw(array: Any) -> Any:
    """Strings or bytes as large binary, which checks nothing and has no end at 2 GiB."""
    if pa.types.is_dictionary(array.type):
        values = array.dictionary.cast(pa.large_binary())
        return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    return array.cast(pa.large_binary())


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _numbers(array: Any) -> pl.Series:
    plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    # Unsafe: integers past 2^53 lose digits that no rule looks at.
    values = _series(plain.cast(pa.float64(), safe=False), pl.Float64)
    return values.to_frame("value").select(pl.when(pl.col("value").is_finite()).then("value")).to_series()


def _series(array: Any, type_: type[pl.DataType]) -> pl.Series:
    series = pl.from_arrow(array)
    return pl.Series(series, dtype=type_)
