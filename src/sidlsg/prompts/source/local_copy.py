"""Local copies: a file's content on this machine, for as long as it is read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sidlsg.prompts.source.damage import damage_named
from sidlsg.prompts.source.files import InputFile
from sidlsg.runtime.errors import ContentError
from sidlsg.storage.store import open_store


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
