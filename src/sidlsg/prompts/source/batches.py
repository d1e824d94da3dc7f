"""Batches: the rows of a piece as frames of one shape, whatever the file's format."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.arrays import is_list, numbers_of, texts_of, unlisted
from sidlsg.prompts.source.columns import NUMBERS, STRINGS, folder_columns, match_columns, require_columns
from sidlsg.prompts.source.csv_files import (
    GIVEN,
    NO_SCORE,
    NO_TEXT,
    NOT_A_NUMBER,
    NOT_UTF8,
    UNREAD_SAFETY,
    csv_batches,
    csv_columns,
)
from sidlsg.prompts.source.files import CSV, JSONL, PARQUET, TEXT, InputFile
from sidlsg.prompts.source.json_lines import object_columns, parse_lines
from sidlsg.prompts.source.lines import longest, read_lines
from sidlsg.prompts.source.local_copy import damaged
from sidlsg.prompts.source.parquet import Piece, opened, row_counts, table_batches, table_columns
from sidlsg.runtime.errors import InputError

SCHEMA = pl.Schema(
    {
        "text": pl.String,
        "problem": pl.String,
        "score": pl.Float64,
        "punsafe": pl.Float64,
        "watermark": pl.Float64,
        "similarity": pl.Float64,
        "width": pl.Float64,
        "height": pl.Float64,
        "nsfw": pl.String,
        "language": pl.String,
        "row": pl.UInt64,
        "given": pl.Binary,
    }
)
"""Of every batch. `text` is null where there is none that can be read. `problem` names in words of
`sidlsg.prompts.source.csv_files` why there is no text, or no score where the rules need one, and is null elsewhere;
`given` is what the file has where something cannot be read, shortened. Numbers are null where there is none, NaN or
infinity, strings where they cannot be read. Columns that neither the file nor its folders have, or that no rule reads,
are null. `row` identifies the row in its file, see `Piece`; a row with a list of texts is as many rows of a batch."""
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
        batch_rows: at most so many rows of the file in a batch; fewer where texts are very long.

    Yields:
        Frames of `SCHEMA` with at least one row.

    Raises:
        InputError: the file is missing, truncated or damaged, or does not have the columns that the rules need.
        StorageError: the disk or the network did not give it.
    """
    readers = {PARQUET: _parquet_frames, CSV: _csv_frames, TEXT: _line_frames, JSONL: _line_frames}
    for frame in readers[file.format](path, file, piece, rules, batch_rows):
        yield _completed(frame, file, rules)


def columns_of(path: Path, file: InputFile, rules: CurationRules) -> set[str]:
    """The meanings that a file has columns for, of those that the rules read; of jsonl its first objects say it.

    Raises:
        InputError: the file cannot be read, or lacks a column that the rules need, or one holds something else.
        StorageError: the disk or the network did not give it.
    """
    if file.format == PARQUET:
        with opened(path, file) as table:
            found = set(table_columns(table, file, rules))
    elif file.format == CSV:
        found = set(_csv_columns(path, file, rules))
    elif file.format == TEXT:
        require_columns({"text"}, file, rules)
        found = {"text"}
    else:
        found = object_columns(path, file, rules)
    return found | folder_columns(file, rules).keys()


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
    """Read one row, as a frame of `SCHEMA` with a row for each text of a list.

    Args:
        path: of the file's content.
        file: that the row is in.
        rules: say which columns are read.
        row: its number in parquet and CSV, the byte offset of its line in text and jsonl.

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
    elif file.format == CSV:
        start, stop, first = 0, 0, 0
    else:
        start, stop, first = row, row + 1, -1
    if row >= 0:
        piece = Piece(file=0, start=start, stop=stop, rows=1, first_row=first)
        for frame in read_batches(path, file, piece, rules):
            found = frame.filter(pl.col("row") == row)
            if len(found):
                return found
    raise InputError(
        f"no row of {file.place} is at {row}; in csv rows are counted from 0, in text and jsonl a row is named by the "
        "byte offset at which its line starts, and blank lines are none"
    )


def _parquet_frames(
    path: Path, file: InputFile, piece: Piece, rules: CurationRules, batch_rows: int
) -> Iterator[pl.DataFrame]:
    with opened(path, file) as table:
        columns = table_columns(table, file, rules)
        row = piece.first_row
        stop = piece.stop or table.metadata.num_row_groups
        for arrays in table_batches(path, table, columns, piece.start, stop, batch_rows):
            count = len(arrays["text"])
            if count:
                yield _frame(arrays, np.arange(row, row + count, dtype=np.uint64), rules)
            row += count
        expected = sum(row_counts(table)[piece.start : stop])
        if row - piece.first_row != expected:
            reason = f"{row - piece.first_row:,} rows were read where it says that there are {expected:,}"
            raise damaged(file, PARQUET, reason)


def _csv_frames(
    path: Path, file: InputFile, piece: Piece, rules: CurationRules, batch_rows: int
) -> Iterator[pl.DataFrame]:
    columns, row = _csv_columns(path, file, rules), piece.first_row
    if not columns:
        return
    for found in csv_batches(path, file, sorted(set(columns.values())), batch_rows):
        arrays = {meaning: found[name] for meaning, name in columns.items()}
        count = len(arrays["text"])
        yield _frame(arrays, np.arange(row, row + count, dtype=np.uint64), rules)
        row += count


def _csv_columns(path: Path, file: InputFile, rules: CurationRules) -> dict[str, str]:
    names = csv_columns(path, file)
    if not names:
        return {}
    columns = match_columns(names, file, rules)
    # Whether a value is a number shows where it is read.
    require_columns(columns.keys(), file, rules, dict.fromkeys(names, "strings numbers"))
    return columns


def _line_frames(
    path: Path, file: InputFile, piece: Piece, rules: CurationRules, batch_rows: int
) -> Iterator[pl.DataFrame]:
    for rows, lines in read_lines(path, file, piece.start, piece.stop, longest(rules)):
        for at in range(0, len(lines), batch_rows):
            some = slice(at, at + batch_rows)
            if file.format == TEXT:
                yield _frame({"text": pa.array(lines[some], pa.large_binary())}, rows[some], rules)
            else:
                yield parse_lines(lines[some], rows[some], rules, file)


def _frame(arrays: Mapping[str, Any], rows: Any, rules: CurationRules) -> pl.DataFrame:
    if is_list(arrays["text"].type):
        texts, owners = unlisted(arrays["text"])
        arrays = {meaning: array.take(owners) for meaning, array in arrays.items() if meaning != "text"}
        arrays, rows = {"text": texts, **arrays}, rows[owners]
    text, given = texts_of(arrays["text"], rules.text.encoding)
    series = {"text": text, "given": given, "row": pl.Series(rows, dtype=pl.UInt64)}
    misread = {}
    for meaning in STRINGS:
        if meaning in arrays:
            series[meaning], _ = texts_of(arrays[meaning], rules.text.encoding)
    for meaning in NUMBERS:
        if meaning in arrays:
            series[meaning], misread[meaning] = numbers_of(arrays[meaning])
    frame = pl.DataFrame(series).with_columns(
        problem=pl.when(pl.col("given").is_not_null()).then(pl.lit(NOT_UTF8, pl.String))
    )
    # Safety first: a row has one problem, and this one takes its text.
    for meaning, problem in (("punsafe", UNREAD_SAFETY), ("score", NOT_A_NUMBER)):
        if meaning in misread and misread[meaning].any():
            raw = pl.Series("_raw", texts_of(arrays[meaning], "latin-1")[0].str.slice(0, GIVEN).cast(pl.Binary))
            frame = _marked(frame, misread[meaning], problem, raw)
    return frame


def _marked(frame: pl.DataFrame, where: pl.Series, problem: str, given: pl.Series) -> pl.DataFrame:
    """A problem of some rows, but for those that have one."""
    new = pl.col("problem").is_null() & pl.Series(where)
    return frame.with_columns(
        given=pl.when(new).then(given).otherwise("given"),
        problem=pl.when(new).then(pl.lit(problem)).otherwise("problem"),
    )


def _completed(frame: pl.DataFrame, file: InputFile, rules: CurationRules) -> pl.DataFrame:
    """A frame of `SCHEMA`, with what the file's folders say and with every problem."""
    frame = frame.with_columns(pl.lit(None, type_).alias(n) for n, type_ in SCHEMA.items() if n not in frame.columns)
    frame = frame.with_columns(
        pl.col(meaning).fill_null(pl.lit(value, SCHEMA[meaning]))
        for meaning, value in folder_columns(file, rules).items()
        if not isinstance(value, float) or math.isfinite(value)
    )
    problem, needs_score = pl.col("problem"), pl.lit(rules.score.enabled)
    needless = (problem == NOT_A_NUMBER) & ~(needs_score & pl.col("score").is_null())
    frame = frame.with_columns(
        pl.when(~needless.fill_null(False)).then(name).alias(name) for name in ("problem", "given")
    )
    return frame.with_columns(
        # What a table says of safety in a way that cannot be read is not taken for silence.
        text=pl.when(problem.ne_missing(UNREAD_SAFETY)).then("text"),
        problem=pl.when(problem.is_not_null())
        .then(problem)
        .when(pl.col("text").is_null())
        .then(pl.lit(NO_TEXT))
        .when(needs_score & pl.col("score").is_null())
        .then(pl.lit(NO_SCORE)),
    ).select(SCHEMA.names())
