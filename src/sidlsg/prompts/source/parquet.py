"""Parquet files as sources: opened with every error named, cut into pieces, and read in the wanted columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.arrays import frame_of, is_list, is_number, is_text, numbers_of
from sidlsg.prompts.source.columns import NUMBERS, is_needless, match_columns, require_columns, wrong_kind
from sidlsg.prompts.source.content import damage_named, damaged, wide_encoding
from sidlsg.prompts.source.files import CSV, MAGIC, PARQUET, InputFile
from sidlsg.runtime.errors import InputError

_BATCH_BYTES = 256 << 20
"""Most bytes of a batch: of texts their own, of other values by the row group's average."""
_SAMPLE = 1000
"""Strings that are checked for whether a column of them holds numbers."""
_LEAST_ROWS = 1 << 14
"""Fewest rows read at once where texts are dictionary-encoded, since each read returns the whole dictionary."""
_LEAST_PLAIN = 1 << 8
"""The same for other encodings."""
_BUFFER = 8 << 20
"""Bytes of a column read at once, so that a large row group is never in memory as a whole."""


@contextlib.contextmanager
def opened(path: Path, file: InputFile) -> Iterator[Any]:
    """Open a parquet file; errors of the block name it, too.

    Raises:
        InputError: it is missing, not parquet, truncated or damaged.
        StorageError: the disk or the network failed.
    """
    with damage_named(file, PARQUET):
        with path.open("rb") as content:
            if content.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{file.place} is not a parquet file; give parquet, or name it by what it is")
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=_BUFFER) as table:
            # No checksum covers the footer, whose counts Arrow trusts.
            found, total = sum(row_counts(table)), table.metadata.num_rows
            if found != total:
                raise damaged(file, PARQUET, f"its row groups have {found:,} rows, and the whole has {total:,}")
            yield table


def row_counts(table: Any) -> list[int]:
    """Rows of each row group."""
    return [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]


def table_columns(table: Any, file: InputFile, rules: CurationRules) -> dict[str, str]:
    """The column of each wanted meaning, checked for its type."""
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


def parquet_frames(
    path: Path, file: InputFile, rules: CurationRules, piece: Piece, batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Frames of a piece's row groups."""
    with opened(path, file) as table:
        columns = table_columns(table, file, rules)
        row, stop = piece.first_row, piece.stop or table.metadata.num_row_groups
        for batch in _batches(path, table, sorted(set(columns.values())), range(piece.start, stop), batch_rows):
            if batch.num_rows:
                numbers = np.arange(row, row + batch.num_rows, dtype=np.uint64)
                yield frame_of({meaning: batch.column(name) for meaning, name in columns.items()}, numbers, rules)
            row += batch.num_rows
        found, expected = row - piece.first_row, sum(row_counts(table)[piece.start : stop])
        if found != expected:
            raise damaged(file, PARQUET, f"{found:,} rows were read where its metadata has {expected:,}")


def _batches(path: Path, table: Any, names: list[str], groups: Sequence[int], batch_rows: int) -> Iterator[Any]:
    """Read some columns of row groups in order.

    Texts are read as dictionaries where their row group fits into memory: a few bytes can stand for a long text in
    every row, and a batch has at most `_BATCH_BYTES` of whole texts.
    """
    texts = [name for name in names if _is_varying(table.schema_arrow.field(name).type)]
    for group in groups:
        # Not of the text column alone: Arrow ends the process where a damaged file's column is asked for its size.
        found = table.metadata.row_group(group)
        size, count = found.total_byte_size, found.num_rows
        rows = max(1, min(batch_rows, int(_BATCH_BYTES * max(1, count) / max(1, size))))
        room = _BATCH_BYTES // max(1, size)  # rows, even if each holds all content of the group
        done = 0
        if size <= _BATCH_BYTES:
            try:
                for batch in _group_batches(path, table, group, names, texts, min(rows, max(_LEAST_ROWS, room))):
                    for part in _parts(batch):
                        done += part.num_rows
                        yield part
                continue
            except (OSError, pa.ArrowException) as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                # Delta-encoded texts give no dictionary; a damaged group fails again.
                rows = min(rows, max(_LEAST_PLAIN, room))
        for batch in _group_batches(path, table, group, names, None, rows):
            part = batch.slice(min(done, batch.num_rows))
            done -= batch.num_rows - part.num_rows
            yield part


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
        # Pieces are read in parallel already.
        yield from reader.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)


def _parts(batch: Any) -> Iterator[Any]:
    """Slices of a batch: one row, or at most `_BATCH_BYTES` of texts once they are decoded."""
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
    """Whether some of the first strings are numbers, or all of them are empty."""
    first = next(table.iter_batches(_SAMPLE, columns=[column], use_threads=False), None)
    if first is None:
        return True
    values, is_misread = numbers_of(first.column(0))
    return bool(values.is_not_null().any()) or not is_misread.any()


ROW_BYTES = 64
"""Typical bytes of a row in a file: a LAION caption in plain text, a row of its tables in parquet."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive rows of a file.

    A row is identified by its file's name and a number, `FILE:ROW`, however the file is cut: in parquet and CSV the
    row's number from 0, in text and jsonl the byte offset of its line in the decompressed content in UTF-8.
    """

    file: int
    """Index of the file."""
    start: int
    """Parquet: the first row group. Text and jsonl: the byte from which on its lines start."""
    stop: int
    """Row group or byte before which it ends; 0, with a start of 0, for the whole file."""
    rows: int
    """Exact for local parquet, else estimated from the bytes."""
    first_row: int
    """Parquet and CSV: number of the first row. Text and jsonl: -1."""


def cut_pieces(index: int, file: InputFile, most: int) -> Iterator[Piece]:
    """Cut a file, with its index in the plan, into pieces of at most `most` rows each, in order.

    Local parquet is cut between row groups, local text and jsonl at bytes by an estimate of the rows. Files on S3 and
    files that are compressed, UTF-16, UTF-32 or CSV stay whole.

    Raises:
        InputError: a parquet file cannot be opened.
    """
    if file.format == PARQUET and file.size == 0:
        raise InputError(f"{file.place} is empty, and so not a parquet file; fetch or write it again")
    if file.is_local and file.format == PARQUET:
        yield from _row_groups(index, file, most)
    elif file.size == 0 or not file.is_local or file.packing or file.format == CSV or _is_wide(file):
        first = 0 if file.format in (PARQUET, CSV) else -1
        yield Piece(file=index, start=0, stop=0, rows=_estimate(file.size), first_row=first)
    else:
        step = most * ROW_BYTES
        for start in range(0, file.size, step):
            stop = min(start + step, file.size)
            yield Piece(file=index, start=start, stop=stop, rows=_estimate(stop - start), first_row=-1)


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


def _estimate(size: int) -> int:
    return -(-size // ROW_BYTES)
