"""CSV files as sources: the first line names the columns, and every value is text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import csv

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.arrays import frame_of
from sidlsg.prompts.source.columns import match_columns, require_columns
from sidlsg.prompts.source.content import damage_named, open_content
from sidlsg.prompts.source.files import CSV, InputFile
from sidlsg.runtime.errors import InputError

_SEPARATORS = b",;\t|"
"""Allowed separators: the one that is most frequent in the first line is used."""
_BLOCK = 16 << 20
"""Bytes read at once, and the longest row."""


def csv_columns(path: Path, file: InputFile, rules: CurationRules) -> dict[str, str]:
    """The column of each wanted meaning; none in an empty file."""
    if file.size == 0:
        return {}
    with _opened(path, file) as reader:
        names = list(reader.schema.names)
    columns = match_columns(names, file, rules)
    # Only reading shows whether a value is a number.
    require_columns(columns.keys(), file, rules, dict.fromkeys(names, "strings numbers"))
    return columns


def csv_frames(path: Path, file: InputFile, rules: CurationRules, first_row: int, rows: int) -> Iterator[pl.DataFrame]:
    """Frames of at most `rows` rows, over the whole file."""
    columns = csv_columns(path, file, rules)
    if not columns:
        return
    names = sorted(set(columns.values()))
    options = csv.ConvertOptions(
        include_columns=names,
        # As bytes: the steps drop and count values that are not UTF-8 or not numbers.
        column_types=dict.fromkeys(names, pa.large_binary()),
        null_values=[""],
        strings_can_be_null=True,
    )
    with _opened(path, file, options) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, rows):
                part = batch.slice(start, rows)
                numbers = np.arange(first_row, first_row + part.num_rows, dtype=np.uint64)
                yield frame_of({meaning: part.column(name) for meaning, name in columns.items()}, numbers, rules)
                first_row += part.num_rows


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
