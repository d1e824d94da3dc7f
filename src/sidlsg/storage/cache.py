"""Copies on this machine of what lies elsewhere, kept by their digest and fetched once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import require_digest, sha256_bytes

VARIABLE = "SIDLSG_CACHE"
"""The environment variable that names the cache's folder."""


def cache_folder() -> Path:
    """`SIDLSG_CACHE`, or `sidlsg` in the user's cache folder (`XDG_CACHE_HOME`, by default `~/.cache`).

    Raises:
        InputError: no variable names a folder, and the user has no home.
    """
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser().absolute()
    users = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG rules say that a relative path there does not count.
    if users.is_absolute():
        return users / "sidlsg"
    try:
        return Path.home() / ".cache" / "sidlsg"
    except RuntimeError as error:
        raise InputError(f"this user has no home folder for the cache; set {VARIABLE} to a folder") from error


def fetched(
    place: str, name: str, sha256: str, fetch: Callable[[Path], None], digest: Callable[[Path], str]
) -> tuple[Path, str]:
    """A copy of what lies at a place, fetched unless content of this digest is there already.

    The copy is digested at every call, not compared by size: it stands for the digest that a run's records name, and
    reading it costs seconds where a wrong teacher costs a run. A damaged one is fetched again. Processes that ask for
    the same at the same time fetch it once; one that is killed leaves nothing that counts.

    Args:
        place: where it comes from.
        name: of the copy, for those who look at its suffix.
        sha256: hex SHA-256 of the content; empty to take what is there now.
        fetch: writes the content to a path, a file or a folder.
        digest: of what is at a path.

    Returns:
        The copy, and its digest.

    Raises:
        ContentError: the content at the place has another digest.
        InputError: there is no place for the cache.
    """
    kept = cache_folder() / "sha256"
    judged: tuple[int, int] | None = None
    while True:
        copy = kept / sha256 / name
        if sha256:
            judged = _identity(copy)
            if judged and _is(copy, sha256, digest):
                return copy, sha256
        with _work_folder(place, sha256) as work:
            if sha256 and _identity(copy) not in (None, judged):
                # Another process put a copy there while this one waited.
                continue
            fetch(work / name)
            found = digest(work / name)
            require_digest(place, found, sha256)
            copy = kept / found / name
            if judged and _identity(copy) == judged:
                _remove(copy)
            _place(work / name, copy)
            return copy, found


def _is(copy: Path, sha256: str, digest: Callable[[Path], str]) -> bool:
    try:
        return digest(copy) == sha256
    except (OSError, InputError):
        # It is being replaced, or a part of it is gone.
        return False


@contextlib.contextmanager
def _work_folder(place: str, sha256: str) -> Iterator[Path]:
    """An empty folder that this process has alone; what a killed process left in it is deleted."""
    work = cache_folder() / "partial" / sha256_bytes(f"{place}\0{sha256}".encode())[:16]
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_suffix(".lock").open("w") as lock:
        # The system drops the lock when the process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _place(made: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(made, copy)
    except OSError:
        # The same content, fetched from another place at the same time, is as good.
        if not copy.exists():
            raise


def _remove(copy: Path) -> None:
    if copy.is_dir():
        shutil.rmtree(copy)
    else:
        copy.unlink(missing_ok=True)


def _identity(copy: Path) -> tuple[int, int] | None:
    try:
        status = copy.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
