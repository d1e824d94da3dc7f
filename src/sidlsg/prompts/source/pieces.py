"""Pieces: parts of files that are read each by itself, of about equal numbers of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.prompts.source.content import wide_encoding
from sidlsg.prompts.source.damage import damage_named
from sidlsg.prompts.source.files import CSV, PARQUET, InputFile
from sidlsg.prompts.source.parquet import opened, row_counts
from sidlsg.runtime.errors import InputError

ROW_BYTES = 64
"""What a row takes in a file, about: a caption of LAION in plain text, a row of its tables in parquet."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of a file's rows.

    A row is identified by its file's name and a number, `FILE:ROW`: in parquet and CSV the row's number in the file
    from 0, in text and jsonl the byte offset at which its line starts, in the unpacked content in UTF-8 where it is
    packed or wider. So it is the same however the file is cut.
    """

    file: int
    """Which one of the files."""
    start: int
    """Parquet: the first row group. Text and jsonl: the piece has the lines that start at this byte or later."""
    stop: int
    """The row group or byte before which it ends; 0, with a start of 0, for the whole file."""
    rows: int
    """How many: exact for local parquet, else estimated from the bytes."""
    first_row: int
    """Parquet and CSV: the number of the first row. Text and jsonl: -1, as lines say it themselves."""


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file that is left out."""

    name: str
    """As in `InputFile`."""
    reason: str
    """What is wrong with it, as a sentence."""


def cut_pieces(
    files: Sequence[InputFile], rows_per_piece: int, skip_bad_files: bool = False
) -> tuple[list[Piece], list[BadFile]]:
    """Cut files into pieces, in the order of the files and of their rows.

    Local parquet is cut between row groups, local text and jsonl at bytes. What lies on S3, is
    packed, UTF-16 or CSV stays whole.

    Args:
        files: as `find_inputs` found them.
        rows_per_piece: at most so many rows, unless one row group has more; in text as many as the bytes suggest.
        skip_bad_files: leave out parquet files that cannot be opened, and return them.

    Raises:
        InputError: a parquet file cannot be opened, and such files are not to be skipped.
        StorageError: the disk or the network did not give one.
    """
    if rows_per_piece < 1:
        raise InputError(f"rows_per_piece is {rows_per_piece}; give 1 or more")
    pieces: list[Piece] = []
    bad: list[BadFile] = []
    for index, file in enumerate(files):
        try:
            pieces += _pieces(index, file, rows_per_piece)
        except InputError as error:
            if not skip_bad_files:
                raise
            bad.append(BadFile(name=file.name, reason=str(error)))
    return pieces, bad


def _pieces(index: int, file: InputFile, most: int) -> Iterator[Piece]:
    if file.format == PARQUET:
        if file.size == 0:
            raise InputError(f"{file.place} is empty, and so not a parquet file; fetch or write it again")
        if file.is_local:
            return _row_groups(index, file, most)
        return iter([Piece(file=index, start=0, stop=0, rows=_estimate(file.size), first_row=0)])
    first = 0 if file.format == CSV else -1
    if file.size == 0 or not file.is_local or file.packing or file.format == CSV or _is_wide(file):
        return iter([Piece(file=index, start=0, stop=0, rows=_estimate(file.size), first_row=first)])
    return _byte_ranges(index, file, most)


def _is_wide(file: InputFile) -> bool:
    with damage_named(file, file.format):
        return bool(wide_encoding(Path(file.place), file))


def _row_groups(index: int, file: InputFile, most: int) -> Iterator[Piece]:
    with opened(Path(file.place), file) as table:
        counts = row_counts(table)
    start = rows = first = 0
    for group, count in enumerate(counts):
        if group > start and rows + count > most:
            yield Piece(file=index, start=start, stop=group, rows=rows, first_row=first)
            start, rows, first = group, 0, first + rows
        rows += count
    yield Piece(file=index, start=start, stop=len(counts), rows=rows, first_row=first)


def _byte_ranges(index: int, file: InputFile, most: int) -> Iterator[Piece]:
    step = most * ROW_BYTES
    for start in range(0, file.size, step):
        stop = min(start + step, file.size)
        yield Piece(file=index, start=start, stop=stop, rows=_estimate(stop - start), first_row=-1)


def _estimate(size: int) -> int:
    return -(-size // ROW_BYTES)
