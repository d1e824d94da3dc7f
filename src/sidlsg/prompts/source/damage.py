"""Damage: what goes wrong while a file of rows is read, as errors that name the file."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator

import pyarrow as pa

from sidlsg.prompts.source.files import InputFile
from sidlsg.runtime.errors import InputError, StorageError


@contextlib.contextmanager
def damage_named(file: InputFile, kind: str) -> Iterator[None]:
    """Turn what is raised in the block for a file that cannot be read into the project's errors.

    Args:
        file: for messages.
        kind: what it is read as, such as parquet.

    Raises:
        InputError: the file is gone, closed to this user, truncated or damaged; another one may be read.
        StorageError: the disk or the network did not give it.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(
            f"{file.place} cannot be read: {error.strerror}; check that it is there, and its permissions"
        ) from error
    except (OSError, pa.ArrowException, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        # Libraries raise errors without a number for content that they cannot read.
        if isinstance(error, OSError) and error.errno and not isinstance(error, gzip.BadGzipFile):
            raise StorageError(
                f"{file.place} cannot be read: {error.strerror}; check the disk or the network, and run the same "
                "command again"
            ) from error
        raise damaged(file, kind, str(error)) from error


def damaged(file: InputFile, kind: str, reason: str) -> InputError:
    """The error for a file that is truncated or damaged."""
    first = (reason.splitlines() or ["unknown"])[0].rstrip(".")
    return InputError(
        f"{file.place} cannot be read as {kind}: it is truncated or damaged ({first}); fetch or write it again"
    )
