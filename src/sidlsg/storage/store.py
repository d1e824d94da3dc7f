"""A store: named objects in a folder on disk or under an `s3://` prefix, each complete or absent."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sidlsg.runtime.errors import InputError, MissingError
from sidlsg.storage.files import atomic_write, copy_verified, remove_remains

S3 = "s3://"
"""Starts a place on S3."""
_NAME = re.compile(r"[^./\\\0\n][^/\\\0\n]*(/[^./\\\0\n][^/\\\0\n]*)*")


class Store(Protocol):
    """Named objects. A name is relative, its parts joined by `/`, none of which starts with a dot.

    One writer a name: of two that write the same name at the same time, the one that began first may fail.
    """

    place: str
    """As it was given, for messages."""

    def put(self, name: str, file: Path, sha256: str) -> None:
        """Store a file's content: complete, or not at all.

        Args:
            name: of the object; an earlier one is replaced.
            file: what to store; it is left as it is.
            sha256: hex SHA-256 of its content, which what goes up is checked against.

        Raises:
            ContentError: the file's content is another.
            InputError: the name or the access is refused.
            StorageError: the server did not take it; an earlier object of the name is intact or absent.
        """
        ...

    def get(self, name: str, target: Path, sha256: str = "") -> None:
        """Fetch an object into a file, which appears whole or not at all.

        Args:
            name: of the object.
            target: the file; an earlier one is replaced.
            sha256: hex SHA-256 that the content must have; empty to check only what the object itself carries.

        Raises:
            MissingError: there is no such object; the target is as it was.
            ContentError: its content is another; the target is as it was.
            AccessError: the access is refused.
            InputError: the name or the access is refused.
            StorageError: the server did not give it.
        """
        ...

    def write(self, name: str, data: bytes) -> None:
        """Store a few bytes: complete, or not at all.

        Raises:
            InputError: the name or the access is refused.
            StorageError: the server did not take them.
        """
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a small object.

        Raises:
            ContentError: there is no such object, or it is damaged.
            InputError: the name or the access is refused.
            StorageError: the server did not give it.
        """
        ...

    def part(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a large object, fewer where it ends before; nothing is checked.

        Args:
            name: of the object.
            start: the first byte; below 0, it counts from the end.
            length: how many.

        Raises:
            ContentError: there is no such object.
            InputError: the name or the access is refused.
            StorageError: the server did not give it.
        """
        ...

    def names(self, prefix: str = "") -> list[str]:
        """The names that start with a prefix, sorted, without what is being written.

        Raises:
            InputError: the access is refused.
            StorageError: the server did not answer.
        """
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, and what writers of them left that were killed; those that are not there are fine.

        Raises:
            InputError: a name or the access is refused.
            StorageError: the server did not do it; some may be gone.
        """
        ...


def check_name(name: str) -> str:
    """An object's name, where it is one.

    Raises:
        InputError: it is empty, absolute, has an empty part, or a part starts with a dot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name an object of a store; give a relative name such as a/b.json, "
            "with no part that is empty or starts with a dot"
        )
    return name


def is_hidden(name: str) -> bool:
    """Whether a part of a name starts with a dot, so that it is no object of a store."""
    return any(part.startswith(".") for part in name.split("/"))


class FolderStore:
    """A store in a local folder."""

    def __init__(self, place: str, create: bool = True) -> None:
        if not place or "://" in place:
            raise InputError(f"{place!r} is no place for a store; give a local folder or {S3}BUCKET/PREFIX")
        self.place = place
        self.folder = Path(place).expanduser().absolute()
        if self.folder.is_dir():
            return
        if not create:
            raise InputError(f"there is no folder {self.folder}; give one that exists, or {S3}BUCKET/PREFIX")
        # Another process may make it meanwhile, so its absence is not asked for first.
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise InputError(f"{self.folder} is a file; give a folder or {S3}BUCKET/PREFIX") from error
        except NotADirectoryError as error:
            raise InputError(f"{self.folder} lies under a file; give a path through folders alone") from error
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be made: {error.strerror}; give a folder that you may write to"
            ) from error

    def put(self, name: str, file: Path, sha256: str) -> None:
        """See `Store`."""
        path = self._path(name)
        remove_remains(path)
        copy_verified(file, path, sha256)

    def get(self, name: str, target: Path, sha256: str = "") -> None:
        """See `Store`."""
        try:
            copy_verified(self._path(name), target, sha256)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise self._missing(name) from error

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        path = self._path(name)
        remove_remains(path)
        atomic_write(path, data)

    def read(self, name: str) -> bytes:
        """See `Store`."""
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise self._missing(name) from error

    def part(self, name: str, start: int, length: int) -> bytes:
        """See `Store`."""
        try:
            with self._path(name).open("rb") as file:
                file.seek(*((start, os.SEEK_SET) if start >= 0 else (start, os.SEEK_END)))
                return file.read(length)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise self._missing(name) from error

    def names(self, prefix: str = "") -> list[str]:
        """See `Store`."""
        # Only the folder that the prefix names is looked through.
        folder = self.folder / prefix.rpartition("/")[0]
        files = (path.relative_to(self.folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return sorted(name for name in files if name.startswith(prefix) and not is_hidden(name))

    def delete(self, names: Iterable[str]) -> None:
        """See `Store`."""
        for name in names:
            path = self._path(name)
            with contextlib.suppress(NotADirectoryError):
                path.unlink(missing_ok=True)
                remove_remains(path)
            self._remove_empty(path.parent)

    def _remove_empty(self, folder: Path) -> None:
        """Remove folders that hold nothing more, as they are not there on S3 either."""
        while folder != self.folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _path(self, name: str) -> Path:
        return self.folder / check_name(name)

    def _missing(self, name: str) -> MissingError:
        return MissingError(f"there is no {name} in {self.place}; give a store that holds it, or write it again")


def clear(store: Store) -> None:
    """Delete everything in a store, and its folder on this machine."""
    store.delete(store.names())
    if isinstance(store, FolderStore):
        shutil.rmtree(store.folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class ObjectState:
    """What is known of a file without reading it."""

    size: int
    """In bytes."""
    version: str
    """An ETag, or what a file system says of the last change."""
