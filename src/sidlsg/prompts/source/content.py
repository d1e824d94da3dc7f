"""Content of source files: a local copy, errors that name the file, decompression, and UTF-16 or UTF-32 as UTF-8."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sidlsg.prompts.source.files import InputFile
from sidlsg.runtime.errors import ContentError, InputError, StorageError
from sidlsg.storage.uri import open_store

MARK = b"\xef\xbb\xbf"
"""UTF-8's byte order mark."""
_WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order marks of wider encodings, longer ones first: UTF-32's begins with UTF-16's."""
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, "": open}


@contextlib.contextmanager
def local_copy(file: InputFile) -> Iterator[Path]:
    """Give a file's content on this machine: the file itself, or a temporary copy of one on S3.

    Raises:
        ContentError: it is gone, or its size has changed since it was found.
        InputError: access is denied.
        StorageError: the S3 server did not deliver it.
    """
    if file.is_local:
        with damage_named(file, file.format):
            _require_size(file, Path(file.place))
        yield Path(file.place)
        return
    parent, _, name = file.place.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="sidlsg-source-") as temporary:
        path = Path(temporary) / "copy"
        open_store(parent, check=False).get(name, path)
        _require_size(file, path)
        yield path


def _require_size(file: InputFile, path: Path) -> None:
    size = path.stat().st_size
    if size != file.size:
        raise ContentError(
            f"{file.place} has changed: it had {file.size:,} bytes when it was found, and has {size:,} now; "
            "let nothing write it while it is read, and run the same command again"
        )


@contextlib.contextmanager
def damage_named(file: InputFile, kind: str) -> Iterator[None]:
    """Raise read errors of the block as the project's errors, with the file's name.

    Args:
        file: for messages.
        kind: what it is read as, such as parquet.

    Raises:
        InputError: the file is missing, not readable by this user, truncated or damaged.
        StorageError: the disk or the network failed.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(
            f"{file.place} cannot be read: {error.strerror}; check that it exists, and its permissions"
        ) from error
    except (OSError, pa.ArrowException, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        # Libraries raise OSError without a number for content that they cannot read.
        if isinstance(error, OSError) and error.errno and not isinstance(error, gzip.BadGzipFile):
            raise StorageError(
                f"{file.place} cannot be read: {error.strerror}; check the disk or the network, and run the same "
                "command again"
            ) from error
        raise damaged(file, kind, str(error)) from error


def damaged(file: InputFile, kind: str, reason: str) -> InputError:
    """The error for a truncated or damaged file."""
    first = (reason.splitlines() or ["unknown"])[0].rstrip(".")
    return InputError(
        f"{file.place} cannot be read as {kind}: it is truncated or damaged ({first}); fetch or write it again"
    )


@contextlib.contextmanager
def open_content(path: Path, file: InputFile) -> Iterator[Any]:
    """Open a file's content as a stream of decompressed UTF-8, not always seekable; errors are raised as they are."""
    wide = wide_encoding(path, file)
    with _decompressed(path, file) as stream:
        yield pa.transcoding_input_stream(pa.PythonFile(stream, mode="r"), wide, "utf-8") if wide else stream


def wide_encoding(path: Path, file: InputFile) -> str:
    """`utf-16` or `utf-32` where the content begins with its byte order mark, else empty."""
    with _decompressed(path, file) as stream:
        beginning = stream.read(4)
    return next((name for mark, name in _WIDE.items() if beginning.startswith(mark)), "")


def _decompressed(path: Path, file: InputFile) -> Any:
    if file.size == 0:
        return io.BytesIO()
    if file.packing == ".zst":
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return _OPENERS[file.packing](path, "rb")
