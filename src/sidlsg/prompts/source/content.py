"""Content of text files as bytes of UTF-8: unpacked, and out of UTF-16 and UTF-32 where a byte order mark says so."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from sidlsg.prompts.source.files import InputFile

MARK = b"\xef\xbb\xbf"
"""The byte order mark that some programs begin UTF-8 with."""
_WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""The marks of wider encodings, the longer ones first: one of UTF-16 begins one of UTF-32."""
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, "": open}


@contextlib.contextmanager
def open_content(path: Path, file: InputFile) -> Iterator[Any]:
    """Open a file's content to read, not always to seek in; what goes wrong is raised as it comes.

    Args:
        path: of the file's bytes.
        file: says how they are packed.
    """
    wide = wide_encoding(path, file)
    with _unpacked(path, file) as stream:
        yield pa.transcoding_input_stream(pa.PythonFile(stream, mode="r"), wide, "utf-8") if wide else stream


def wide_encoding(path: Path, file: InputFile) -> str:
    """`utf-16` or `utf-32` where the content begins with such a mark, else nothing."""
    with _unpacked(path, file) as stream:
        beginning = stream.read(4)
    return next((name for mark, name in _WIDE.items() if beginning.startswith(mark)), "")


def skip(stream: IO[bytes], count: int, block: int) -> None:
    """Go on by so many bytes in a stream at its beginning."""
    if stream.seekable():
        stream.seek(count)
        return
    while count and (data := stream.read(min(count, block))):
        count -= len(data)


def _unpacked(path: Path, file: InputFile) -> Any:
    if file.size == 0:
        return io.BytesIO()
    if file.packing == ".zst":
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return _OPENERS[file.packing](path, "rb")
