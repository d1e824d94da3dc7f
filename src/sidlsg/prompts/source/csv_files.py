"""CSV files as sources: the first line names the columns, and every value is text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from sidlsg.prompts.source.content import open_content
from sidlsg.prompts.source.files import CSV, InputFile
from sidlsg.prompts.source.local_copy import damage_named
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import printable
from sidlsg.runtime.text_files import likely_encoding

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


NO_TEXT = "no text"
NOT_UTF8 = "a text that is not UTF-8"
NOT_A_STRING = "a text that is not a whole string"
NO_OBJECT = "no JSON object with unambiguous keys"
UNREAD_SAFETY = "a value for punsafe or nsfw that cannot be read"
NO_SCORE = "no score"
NOT_A_NUMBER = "a score that is not a number"
GIVEN = 200
"""Bytes of what the file has there that are kept for an example."""
_REMEDIES = {
    NO_TEXT: "if the texts are in another column, set columns.text to it",
    NOT_A_STRING: "write strings, or lists of strings",
    NO_OBJECT: "write one JSON object a line, its keys not alike but for case",
    UNREAD_SAFETY: "write numbers from 0 to 1 and tags as strings, or set unsafe.columns to false",
    NO_SCORE: "set columns.score to a column that has scores, or score.enabled to false to go without",
    NOT_A_NUMBER: "write numbers such as 6.25, or set columns.score to a column that has them",
}
_OTHERS = "windows-1251, shift_jis or gb18030"


def remedy(problem: str, examples: Sequence[bytes], encoding: str) -> str:
    """What to do about a problem.

    Args:
        problem: one of the names above.
        examples: what files have where it is.
        encoding: the rule `text.encoding`.
    """
    if problem != NOT_UTF8:
        return _REMEDIES[problem]
    if encoding:
        return f"they are not {encoding} (text.encoding) either; set another, or save the file as UTF-8"
    likely = likely_encoding(examples)
    if not likely:
        return f"set text.encoding to what they are in, such as {_OTHERS}, or save the file as UTF-8"
    reading = printable(examples[0].decode(likely))
    return f'in {likely} that is "{reading}"; if it is right, set text.encoding to {likely}, or save the file as UTF-8'


def shown(given: bytes) -> str:
    """What a file has, for a message, its control characters and bytes that are not UTF-8 as escapes."""
    return printable(given.decode("utf-8", "backslashreplace"))
