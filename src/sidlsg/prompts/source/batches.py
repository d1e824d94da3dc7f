"""Batches: the rows of a piece as frames of one schema, whatever the file's format."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import polars as pl
import pyarrow as pa

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.arrays import frame_of
from sidlsg.prompts.source.columns import NUMBERS, STRINGS, folder_columns, require_columns
from sidlsg.prompts.source.csv_files import csv_columns, csv_frames
from sidlsg.prompts.source.files import CSV, PARQUET, TEXT, InputFile
from sidlsg.prompts.source.json_lines import object_columns, parse_lines
from sidlsg.prompts.source.lines import longest, read_lines
from sidlsg.prompts.source.parquet import Piece, opened, parquet_frames, row_counts, table_columns
from sidlsg.prompts.source.problems import NO_SCORE, NO_TEXT, NOT_A_NUMBER, UNREAD_SAFETY
from sidlsg.runtime.errors import InputError

SCHEMA = pl.Schema(
    {
        "text": pl.String,
        "problem": pl.String,
        **dict.fromkeys(NUMBERS, pl.Float64),
        **dict.fromkeys(STRINGS, pl.String),
        "row": pl.UInt64,
        "given": pl.Binary,
    }
)
"""Of every batch. `problem` is one of `sidlsg.prompts.source.problems` where there is no readable text, or no score and
the rules need one; `given` is then the beginning of the row's content. Values that are missing, cannot be read or are
not finite are null, and so are columns that no rule reads. `row` identifies the row in its file, see `Piece`; a row
with a list of texts is several rows of a batch."""
BATCH_ROWS = 131_072
"""Most rows of a batch."""


def read_batches(
    path: Path, file: InputFile, piece: Piece, rules: CurationRules, batch_rows: int = BATCH_ROWS
) -> Iterator[pl.DataFrame]:
    """Read the rows of a piece in order as frames of `SCHEMA`, one in memory at a time.

    A batch has at most `batch_rows` rows of the file, fewer where texts are very long, and none is empty.

    Raises:
        InputError: the file is missing, truncated or damaged, or lacks a column that the rules need.
        StorageError: the disk or the network failed.
    """
    if file.format == PARQUET:
        frames = parquet_frames(path, file, rules, piece, batch_rows)
    elif file.format == CSV:
        frames = csv_frames(path, file, rules, piece.first_row, batch_rows)
    else:
        frames = _line_frames(path, file, rules, piece, batch_rows)
    for frame in frames:
        yield _completed(frame, file, rules)


def check_file(path: Path, file: InputFile, rules: CurationRules) -> set[str]:
    """Check that a file can be opened and has the columns that the rules need; its rows are not read.

    Returns:
        The wanted meanings that it has columns for; those of jsonl are of its first objects.
    """
    if file.format == PARQUET:
        with opened(path, file) as table:
            found = set(table_columns(table, file, rules))
    elif file.format == CSV:
        found = set(csv_columns(path, file, rules))
    elif file.format == TEXT:
        found = {"text"}
        require_columns(found, file, rules)
        next(read_lines(path, file, 0, 1, longest(rules)), None)
    else:
        found = object_columns(path, file, rules)
    return found | folder_columns(file, rules).keys()


def read_row(path: Path, file: InputFile, rules: CurationRules, row: int) -> pl.DataFrame:
    """Read one row, numbered as in `Piece`, as a frame of `SCHEMA` with a row for each text of a list."""
    start, stop, first = (0, 0, 0) if file.format == CSV else (row, row + 1, -1)
    if file.format == PARQUET:
        with opened(path, file) as table:
            firsts = list(accumulate(row_counts(table), initial=0))
        if not 0 <= row < firsts[-1]:
            has = f"its rows are 0 to {firsts[-1] - 1}" if firsts[-1] else "it has no rows"
            raise InputError(f"there is no row {row} in {file.place}; {has}")
        start = bisect_right(firsts, row) - 1
        stop, first = start + 1, firsts[start]
    if row >= 0:
        piece = Piece(file=0, start=start, stop=stop, rows=1, first_row=first)
        for frame in read_batches(path, file, piece, rules):
            found = frame.filter(pl.col("row") == row)
            if len(found):
                return found
    raise InputError(
        f"no row of {file.place} is at {row}; rows of csv are counted from 0, and a row of text or jsonl is the byte "
        "offset at which its line starts, blank lines not counted"
    )


def _line_frames(
    path: Path, file: InputFile, rules: CurationRules, piece: Piece, batch_rows: int
) -> Iterator[pl.DataFrame]:
    for rows, lines in read_lines(path, file, piece.start, piece.stop, longest(rules)):
        for at in range(0, len(lines), batch_rows):
            some = slice(at, at + batch_rows)
            if file.format == TEXT:
                yield frame_of({"text": pa.array(lines[some], pa.large_binary())}, rows[some], rules)
            else:
                yield parse_lines(lines[some], rows[some], rules, file)


def _completed(frame: pl.DataFrame, file: InputFile, rules: CurationRules) -> pl.DataFrame:
    """A frame of `SCHEMA`, with the values of the file's folders and every problem."""
    frame = frame.with_columns(pl.lit(None, type_).alias(n) for n, type_ in SCHEMA.items() if n not in frame.columns)
    frame = frame.with_columns(
        pl.col(meaning).fill_null(pl.lit(value, SCHEMA[meaning]))
        for meaning, value in folder_columns(file, rules).items()
        if not isinstance(value, float) or math.isfinite(value)
    )
    problem, lacks_score = pl.col("problem"), pl.lit(rules.score.enabled) & pl.col("score").is_null()
    needless = ((problem == NOT_A_NUMBER) & ~lacks_score).fill_null(False)
    frame = frame.with_columns(pl.when(~needless).then(name).alias(name) for name in ("problem", "given"))
    return frame.with_columns(
        # A value for safety that cannot be read must not count as no value.
        text=pl.when(problem.ne_missing(UNREAD_SAFETY)).then("text"),
        problem=pl.when(problem.is_not_null())
        .then(problem)
        .when(pl.col("text").is_null())
        .then(pl.lit(NO_TEXT))
        .when(lacks_score)
        .then(pl.lit(NO_SCORE)),
    ).select(SCHEMA.names())
