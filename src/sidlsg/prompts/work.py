"""A curation's work folder, on disk or S3: tables exchanged between tasks, and results of finished tasks."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import WORK_MARK, folder_lock
from sidlsg.storage.store import S3
from sidlsg.storage.uri import open_store

DONE = "done"
"""Folder of finished tasks' results."""
_LENGTH = 8
"""Bytes of the number at a file's end."""
_DIGITS = 16


@dataclass(frozen=True, order=True)
class Task:
    """One unit of work: a phase of the curation, and the number of its part."""

    phase: str
    number: int


class Work:
    """Tables and results in a local folder, created if needed, or under `s3://BUCKET/PREFIX`.

    Everything appears whole or not at all.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.store = open_store(uri)
        self._indexes: dict[str, dict[int, tuple[int, int]]] = {}

    def put(self, name: str, tables: Mapping[int, pl.DataFrame]) -> None:
        """Store tables by number as one file.

        The file has the tables one after the other, then an index of their offsets and sizes, and the index's length at
        the end, so that a reader fetches only the table that it needs.
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
        self.store.write(f"{name}.tables", buffer.getvalue())

    def get(self, names: Iterable[str], number: int, schema: dict[str, Any]) -> pl.DataFrame:
        """Concatenate the tables with one number in several files, in the order of the names; absent ones are empty."""
        found = []
        for name in names:
            start, length = self._index(f"{name}.tables").get(number, (0, 0))
            if length:
                found.append(pl.read_ipc(io.BytesIO(self.store.part(f"{name}.tables", start, length))))
        return pl.concat(found) if found else pl.DataFrame(schema=schema)

    def done(self, phase: str) -> dict[int, Any]:
        """The results of a phase's finished tasks by their number."""
        names = self.store.names(f"{DONE}/{phase}/")
        return {int(Path(name).stem): parse_json(self.store.read(name)) for name in names}

    def finish(self, task: Task, result: dict[str, Any]) -> None:
        """Mark a task as done, after all its tables are stored."""
        self.store.write(f"{DONE}/{task.phase}/{task.number:06}.json", json.dumps(result).encode())

    def delete(self, prefix: str) -> None:
        """Delete everything whose name starts with a prefix."""
        self.store.delete(self.store.names(prefix))

    def _index(self, name: str) -> dict[int, tuple[int, int]]:
        if name not in self._indexes:
            size = int.from_bytes(self.store.part(name, -_LENGTH, _LENGTH), "big")
            index = self.store.part(name, -_LENGTH - size, size)
            self._indexes[name] = {int(number): tuple(where) for number, where in parse_json(index).items()}
        return self._indexes[name]


class NothingLeftError(InputError):
    """No row is left after a step; the same curation would only end like this again."""


@contextlib.contextmanager
def work_folder(output: str, work: str, key: str) -> Iterator[str]:
    """Provide the work folder of one curation, and delete it when the block succeeds.

    Args:
        output: of the prompt set.
        work: a folder or S3 prefix for work; empty for one next to a local output. S3 has no locks.
        key: hex digest of everything that the result depends on.

    Raises:
        InputError: another process works on the same, or a folder must be given.
    """
    name = key[:_DIGITS]
    if work.startswith(S3):
        uri = f"{work.rstrip('/')}/{name}"
        yield uri
        Work(uri).delete("")
        return
    if work:
        folder = Path(work).expanduser().absolute() / name
    elif output.startswith(S3):
        raise InputError(f"output {output} is on S3, so --work must name a folder or prefix for what is unfinished")
    else:
        target = Path(output).absolute()
        folder = target.parent / f".{target.name}.{name}.work"
        _clear_others(target, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"work cannot lie in {folder}: a part of that is a file; give a folder") from error
    with folder_lock(folder, f"another process curates for {output}"):
        (folder / WORK_MARK).touch()
        try:
            yield str(folder)
        except InputError as error:
            # Work that cannot be resumed, or has not begun, is of no use.
            if isinstance(error, NothingLeftError) or not (folder / DONE).is_dir():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _clear_others(target: Path, mine: Path) -> None:
    """Delete the work of stopped curations of the same output with other rules or inputs."""
    if not target.parent.is_dir():
        return
    form = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{{_DIGITS}}}\.work")
    for other in target.parent.iterdir():
        if other != mine and form.fullmatch(other.name) and (other / WORK_MARK).is_file():
            with folder_lock(other, f"another process curates for {target}"):
                shutil.rmtree(other)
