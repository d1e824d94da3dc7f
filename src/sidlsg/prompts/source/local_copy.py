"""Local copies: a file's content on this machine, for as long as it is read."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sidlsg.prompts.source.files import InputFile
from sidlsg.runtime.errors import ContentError, InputError, StorageError
from sidlsg.storage.uri import open_store


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


@contextlib.contextmanager
def local_copy(file: InputFile, folder: Path | None = None) -> Iterator[Path]:
    """Give a file's content on this machine: the file itself, or a copy of one on S3 that is gone after the block.

    Args:
        file: as `find_inputs` found it.
        folder: for the copy; the system's folder for temporary files by default.

    Raises:
        ContentError: it is not there any more, or has another size than when it was found.
        InputError: the access is refused.
        StorageError: the S3 server did not give it.
    """
    if file.is_local:
        with damage_named(file, file.format):
            _require_size(file, Path(file.place))
        yield Path(file.place)
        return
    parent, _, name = file.place.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="sidlsg-source-", dir=folder) as temporary:
        path = Path(temporary) / "copy"
        open_store(parent, check=False).get(name, path)
        _require_size(file, path)
        yield path


def _require_size(file: InputFile, path: Path) -> None:
    size = path.stat().st_size
    if size != file.size:
        raise ContentError(
            f"{file.place} was changed: it had {file.size:,} bytes when it was found, and has {size:,} now; "
            "let nothing write it while it is read, and run the same command again"
        )
