"""Keeps drawn pictures: as files in a folder, or as one tar a block on S3."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sidlsg.storage.files import atomic_write, refuse_inside, require_writable, sha256_file
from sidlsg.storage.store import S3, open_store


def require_keepable(place: str, output: Path | None = None) -> None:
    """Check a place for pictures before any is drawn.

    Args:
        place: a local folder, or `s3://BUCKET/PREFIX`.
        output: a folder that is replaced as a whole at the end.

    Raises:
        InputError: it cannot be used or written to, or lies inside the output.
        StorageError: the S3 server does not answer.
    """
    if place.startswith(S3):
        open_store(place)
        return
    folder = Path(place).expanduser()
    if output is not None:
        refuse_inside(output, keep_images=folder)
    require_writable(folder)


class Keeper:
    """Writes the pictures of one generator."""

    def __init__(self, place: str, subject: str) -> None:
        """Args:
        place: a local folder, or `s3://BUCKET/PREFIX`.
        subject: whose pictures they are: a folder in it.

        Raises:
            InputError: the place cannot be used.
        """
        self._store = open_store(place)
        self._on_s3 = place.startswith(S3)
        self._subject = subject.replace(" ", "_").replace(",", "")

    def keep(self, drawn: str, block: int, files: Mapping[str, bytes]) -> None:
        """Keep a block of a set, complete or not at all on S3; the same block again replaces it.

        Args:
            drawn: the set's name.
            block: its number.
            files: contents by name, such as `00012.png`.

        Raises:
            StorageError: the server did not take it.
        """
        with tempfile.TemporaryDirectory() as scratch:
            if self._on_s3:
                path = Path(scratch) / "block.tar"
                atomic_write(path, _tar(files))
                self._store.put(f"{self._subject}/{drawn}/{block:06d}.tar", path, sha256_file(path))
                return
        for name, data in files.items():
            self._store.write(f"{self._subject}/{drawn}/{name}", data)


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Equal files make equal bytes: no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
