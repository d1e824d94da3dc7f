"""CSV files as sources: the first line names the columns, and every value is text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from sidlsg.prompts.source.content import open_content
from sidlsg.prompts.source.damage import damage_named
from sidlsg.prompts.source.files import CSV, InputFile
from sidlsg.runtime.errors import InputError

_SEPARATORS = b",;\t|"
"""What may stand between values: the one that the first line has most of."""
_BLOCK = 16 << 20
"""Bytes that are read at once. No row may be longer."""


def csv_columns(path: Path, file: InputFile) -> list[str]:
    """The names of the columns; none of an empty file.

    Raises:
        InputError: the file is missing, damaged, or not CSV.
        StorageError: the disk or the network did not give it.
    """
    if file.size == 0:
        return []
    with _opened(path, file) as reader:
        return list(reader.schema.names)


def csv_batches(path: Path, file: InputFile, columns: Sequence[str], batch_rows: int) -> Iterator[Mapping[str, Any]]:
    """Read some columns from the first row to the last, as Arrow arrays of bytes by name; empty values are null.

    Raises:
        InputError: the file is missing, damaged, or not CSV.
        StorageError: the disk or the network did not give it.
    """
    options = csv.ConvertOptions(
        include_columns=list(columns),
        # Bytes: what is not UTF-8 or not a number is for the steps to drop and count, not an error.
        column_types=dict.fromkeys(columns, pa.large_binary()),
        null_values=[""],
        strings_can_be_null=True,
    )
    with _opened(path, file, options) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, batch_rows):
                part = batch.slice(start, batch_rows)
                yield {name: part.column(name) for name in columns}


@contextlib.contextmanager
def _opened(path: Path, file: InputFile, options: csv.ConvertOptions | None = None) -> Iterator[Any]:
    with damage_named(file, CSV):
        with open_content(path, file) as stream:
            header = stream.read(_BLOCK).partition(b"\n")[0]
        separator = chr(max(_SEPARATORS, key=header.count))
        try:
            with (
                open_content(path, file) as stream,
                csv.open_csv(
                    stream,
                    csv.ReadOptions(block_size=_BLOCK, use_threads=False),
                    csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                    options,
                ) as reader,
            ):
                yield reader
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{file.place} is not CSV with the separator {separator!r}: {str(error).splitlines()[0]}; quote texts "
                "that contain the separator or a line break, or name the file .txt where its lines are the texts"
            ) from error
