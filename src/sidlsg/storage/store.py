"""A store: named objects in a folder on disk or under an `s3://` prefix, each complete or absent."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sidlsg.runtime.errors import InputError, MissingError
from sidlsg.storage.files import atomic_write, copy_verified, remove_remains

S3 = "s3://"
"""Starts a URI on S3."""
_NAME = re.compile(r"[^./\\\0\n][^/\\\0\n]*(/[^./\\\0\n][^/\\\0\n]*)*")


class Store(Protocol):
    """Named objects. A name is relative, its parts joined by `/`, none of which starts with a dot.

    One writer a name: of two that write the same name at the same time, the one that began first may fail.

    Every method raises InputError for a bad name, AccessError where the credentials do not suffice, and StorageError
    where the server fails; those that read raise MissingError where there is no such object.
    """

    uri: str
    """As it was given, for messages."""

    def put(self, name: str, file: Path, sha256: str) -> None:
        """Store a file of this digest, complete or not at all; an earlier object is replaced.

        Raises:
            ContentError: the file has another digest.
        """
        ...

    def get(self, name: str, target: Path, sha256: str = "") -> None:
        """Fetch an object into a file, complete or not at all.

        Args:
            name: of the object.
            target: the file; an earlier one is replaced.
            sha256: hex SHA-256 that the content must have; empty to check only what the object itself carries.

        Raises:
            ContentError: the content has another digest.
        """
        ...

    def write(self, name: str, data: bytes) -> None:
        """Store a few bytes, complete or not at all."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a small object.

        Raises:
            ContentError: it is damaged.
        """
        ...

    def part(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes of a large object, fewer at its end, unchecked; a negative `start` counts from the end."""
        ...

    def names(self, prefix: str = "") -> list[str]:
        """The names that start with a prefix, sorted; unfinished writes do not count."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, where there are any, and what killed writers of them left."""
        ...


@dataclass(frozen=True, kw_only=True)
class ObjectState:
    """What is known of a file without reading it."""

    size: int
    """In bytes."""
    version: str
    """An ETag, or a file system's time of the last change."""


def check_name(name: str) -> str:
    """Return a valid object name; raises InputError for any other."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name an object of a store; give a relative name such as a/b.json, "
            "with no part that is empty or starts with a dot"
        )
    return name


def is_hidden(name: str) -> bool:
    """Whether a part of a name starts with a dot, which no object's does."""
    return any(part.startswith(".") for part in name.split("/"))


class FolderStore:
    """A store in a local folder."""

    def __init__(self, uri: str, create: bool = True) -> None:
        if not uri or "://" in uri:
            raise InputError(f"{uri!r} cannot hold a store; give a local folder or {S3}BUCKET/PREFIX")
        self.uri = uri
        self.folder = Path(uri).expanduser().absolute()
        if self.folder.is_dir():
            return
        if not create:
            raise InputError(f"there is no folder {self.folder}; give one that exists, or {S3}BUCKET/PREFIX")
        # Another process may make it at the same time.
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
        with self._missing_named(name):
            copy_verified(self._path(name), target, sha256)

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        path = self._path(name)
        remove_remains(path)
        atomic_write(path, data)

    def read(self, name: str) -> bytes:
        """See `Store`."""
        with self._missing_named(name):
            return self._path(name).read_bytes()

    def part(self, name: str, start: int, length: int) -> bytes:
        """See `Store`."""
        with self._missing_named(name), self._path(name).open("rb") as file:
            file.seek(start, os.SEEK_SET if start >= 0 else os.SEEK_END)
            return file.read(length)

    def names(self, prefix: str = "") -> list[str]:
        """See `Store`."""
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
        """Remove empty folders, which S3 does not have either."""
        while folder != self.folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _path(self, name: str) -> Path:
        return self.folder / check_name(name)

    @contextlib.contextmanager
    def _missing_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingError(
                f"there is no {name} in {self.uri}; give a store that holds it, or write it again"
            ) from error


def clear(store: Store) -> None:
    """Delete all objects of a store, and its local folder."""
    store.delete(store.names())
    if isinstance(store, FolderStore):
        shutil.rmtree(store.folder, ignore_errors=True)
