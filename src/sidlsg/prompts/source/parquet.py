"""Parquet files as sources: opened with every error named, and read in the columns that the rules want."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.arrays import is_list, is_number, is_text, numbers_of
from sidlsg.prompts.source.columns import NUMBERS, is_needless, match_columns, require_columns, wrong_kind
from sidlsg.prompts.source.content import wide_encoding
from sidlsg.prompts.source.files import CSV, MAGIC, PARQUET, InputFile
from sidlsg.prompts.source.local_copy import damage_named, damaged
from sidlsg.runtime.errors import InputError

_BATCH_BYTES = 256 << 20
"""Bytes of rows that a batch holds at most: of texts as they are, of others as far as a row group's average says it."""
_SAMPLE = 1000
"""Strings that show whether a column of them holds numbers."""
_LEAST_ROWS = 1 << 14
"""Rows that are read at once at least where texts come as dictionaries, for each read gives the whole dictionary."""
_LEAST_PLAIN = 1 << 8
"""The same where they cannot."""
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
    path: Path, table: Any, columns: Mapping[str, str], start: int, stop: int, batch_rows: int
) -> Iterator[Mapping[str, Any]]:
    """Read some row groups in order, as an Arrow array for each meaning.

    Texts come as dictionaries where their row group is small enough to be in memory: a few bytes can stand for a long
    text in every row, and a batch holds no more rows than their whole texts have room in `_BATCH_BYTES`.
    """
    names = sorted(set(columns.values()))
    texts = [name for name in names if _is_varying(table.schema_arrow.field(name).type)]
    for group in range(start, stop):
        size, count = _size(table.metadata, group)
        rows = max(1, min(batch_rows, int(_BATCH_BYTES * max(1, count) / max(1, size))))
        room = _BATCH_BYTES // max(1, size)  # even if each row holds all that there is
        done = 0
        if size <= _BATCH_BYTES:
            try:
                for batch in _group_batches(path, table, group, names, texts, min(rows, max(_LEAST_ROWS, room))):
                    for part in _parts(batch):
                        done += part.num_rows
                        yield {meaning: part.column(name) for meaning, name in columns.items()}
                continue
            except (OSError, pa.ArrowException) as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                # Texts by their differences give no dictionary; what is damaged fails again.
                rows = min(rows, max(_LEAST_PLAIN, room))
        for batch in _group_batches(path, table, group, names, None, rows):
            part = batch.slice(min(done, batch.num_rows))
            done -= batch.num_rows - part.num_rows
            if part.num_rows:
                yield {meaning: part.column(name) for meaning, name in columns.items()}


def _group_batches(
    path: Path, table: Any, group: int, names: list[str], dictionaries: list[str] | None, rows: int
) -> Iterator[Any]:
    with pq.ParquetFile(
        path,
        metadata=table.metadata,
        read_dictionary=dictionaries,
        page_checksum_verification=True,
        buffer_size=_BUFFER,
    ) as reader:
        # Pieces are read side by side already.
        yield from reader.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)


def _parts(batch: Any) -> Iterator[Any]:
    """Slices of a batch whose texts have at most `_BATCH_BYTES` once they are no dictionaries, or that are one row."""
    ends = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _is_varying(column.type.value_type):
            lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
            ends += np.cumsum(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    at, before = 0, 0
    while at < batch.num_rows:
        end = max(at + 1, int(np.searchsorted(ends, before + _BATCH_BYTES, side="right")))
        yield batch.slice(at, end - at)
        at, before = end, int(ends[end - 1])


def _is_varying(type_: Any) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_(type_) for is_ in (*kinds, pa.types.is_string_view, pa.types.is_binary_view))


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


def _size(metadata: Any, group: int) -> tuple[int, int]:
    """Bytes of a row group before compression, and its rows."""
    # Not those of the text column alone: Arrow ends the whole process where a damaged file's entry for a column is
    # asked for like this.
    found = metadata.row_group(group)
    return found.total_byte_size, found.num_rows


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
