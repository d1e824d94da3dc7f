"""A curation's work folder, on disk or S3: tables that tasks hand to each other, and which tasks are done."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import sha256_file
from sidlsg.storage.store import FolderStore, open_store

DONE = "done"
"""The folder of finished tasks' results."""
_LENGTH = 8
"""Bytes of the number at a file's end."""


@dataclass(frozen=True, order=True)
class Task:
    """One unit of work: a phase of the curation, and which part of it."""

    phase: str
    number: int


class Work:
    """Tables and results under a place. What is there is complete: everything appears whole or not at all."""

    def __init__(self, place: str) -> None:
        """Args:
        place: a local folder, which is made, or `s3://BUCKET/PREFIX`.

        Raises:
            InputError: the place cannot be used.
            StorageError: the S3 server does not answer.
        """
        self.place = place
        self._store = open_store(place)
        self._indexes: dict[str, dict[int, tuple[int, int]]] = {}

    @property
    def folder(self) -> Path | None:
        """The local folder; None on S3."""
        return self._store.folder if isinstance(self._store, FolderStore) else None

    def put(self, name: str, tables: Mapping[int, pl.DataFrame]) -> None:
        """Store tables by number as one file; a number that has no rows is found empty.

        The file is the tables one after the other, then where each begins and how long it is, and at the end the
        length of that, so that a reader fetches no more than the table it wants.
        """
        buffer = io.BytesIO()
        where = {}
        for number, table in tables.items():
            start = buffer.tell()
            table.write_ipc(buffer, compression="lz4")
            where[number] = (start, buffer.tell() - start)
        index = json.dumps(where).encode()
        buffer.write(index)
        buffer.write(len(index).to_bytes(_LENGTH, "big"))
        self.write(f"{name}.tables", buffer.getvalue())

    def get(self, names: Iterable[str], number: int, schema: dict[str, Any]) -> pl.DataFrame:
        """The tables of one number out of several files, below each other in the order of the names.

        Raises:
            ContentError: a file is missing.
        """
        found = []
        for name in names:
            start, length = self._index(f"{name}.tables").get(number, (0, 0))
            if length:
                found.append(pl.read_ipc(io.BytesIO(self._store.part(f"{name}.tables", start, length))))
        return pl.concat(found) if found else pl.DataFrame(schema=schema)

    def write(self, name: str, data: bytes) -> None:
        """Store bytes, complete or not at all."""
        self._store.write(name, data)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            ContentError: there is none.
        """
        return self._store.read(name)

    def put_file(self, name: str, path: Path) -> None:
        """Store a file's content."""
        self._store.put(name, path, sha256_file(path))

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file out of the work folder."""
        self._store.get(name, target)

    def done(self, phase: str) -> dict[int, Any]:
        """The results of a phase's finished tasks by their number."""
        names = self._store.names(f"{DONE}/{phase}/")
        return {int(Path(name).stem): parse_json(self.read(name)) for name in names}

    def finish(self, task: Task, result: dict[str, Any]) -> None:
        """Say that a task is done, once all its tables are stored."""
        self.write(f"{DONE}/{task.phase}/{task.number:06}.json", json.dumps(result).encode())

    def delete(self, prefix: str) -> None:
        """Delete everything whose name starts with a prefix."""
        self._store.delete(self._store.names(prefix))

    def _index(self, name: str) -> dict[int, tuple[int, int]]:
        if name not in self._indexes:
            size = int.from_bytes(self._store.part(name, -_LENGTH, _LENGTH), "big")
            index = self._store.part(name, -_LENGTH - size, size)
            self._indexes[name] = {int(number): tuple(where) for number, where in parse_json(index).items()}
        return self._indexes[name]
