"""What all workers of a test run share: made by the first one that asks, and servers ended by the last one to leave.

Without workers it is the same, for one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from sidlsg.registry.server.process import LocalServer

PATIENCE_S = 60.0


def _run_folder(factory: pytest.TempPathFactory) -> Path:
    """Of the whole run: each worker has a folder of its own in it."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker fills; nobody changes it afterwards."""
    folder = _run_folder(factory) / name
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder


@contextmanager
def served(
    factory: pytest.TempPathFactory,
    name: str,
    start: Callable[[Path], object],
    servers: Callable[[Path], Sequence[LocalServer]],
) -> Iterator[Path]:
    """A folder of servers that the first worker starts, and the last one ends and deletes.

    Args:
        factory: of this worker.
        name: of these servers.
        start: starts them in a new folder.
        servers: all that may run there.
    """
    notes = _run_folder(factory) / f"{name}.json"
    lock = FileLock(f"{notes}.lock")

    def end(folder: Path) -> None:
        for server in servers(folder):
            _end(server)
        shutil.rmtree(folder.parent)

    with lock:
        told = json.loads(notes.read_text()) if notes.exists() else {"users": [], "folder": ""}
        users = [pid for pid in told["users"] if psutil.pid_exists(pid)]
        folder = Path(told["folder"])
        if not users:
            # PostgreSQL's own user must be able to enter the folder, where the tests run as root.
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-")) / "servers"
            folder.parent.chmod(0o711)
            try:
                start(folder)
            except BaseException:
                end(folder)
                raise
        notes.write_text(json.dumps({"users": [*users, os.getpid()], "folder": str(folder)}))
    try:
        yield folder
    finally:
        with lock:
            users = [pid for pid in json.loads(notes.read_text())["users"] if pid != os.getpid()]
            notes.write_text(json.dumps({"users": users, "folder": str(folder)}))
            if not any(map(psutil.pid_exists, users)):
                end(folder)


def _end(server: LocalServer) -> None:
    """Kill a server of any worker: a killed one stays a zombie as long as the worker that started it."""
    if server.is_running:
        first = psutil.Process(server.pid)
        family = [first, *first.children(recursive=True)]
        for process in family:
            if process.is_running():
                process.kill()
        until = time.monotonic() + PATIENCE_S
        while any(_lives(process) for process in family) and time.monotonic() < until:
            time.sleep(0.01)
    server.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
