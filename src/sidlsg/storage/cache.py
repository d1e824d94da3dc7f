"""The cache of remote files on this machine, kept by digest."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import file_lock, require_digest, sha256_bytes

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
    # By the XDG rules a relative path does not count.
    if users.is_absolute():
        return users / "sidlsg"
    try:
        return Path.home() / ".cache" / "sidlsg"
    except RuntimeError as error:
        raise InputError(f"this user has no home folder for the cache; set {VARIABLE} to a folder") from error


def fetched(
    uri: str, name: str, sha256: str, fetch: Callable[[Path], None], digest: Callable[[Path], str]
) -> tuple[Path, str]:
    """The cached copy of a URI's content and its digest; it is fetched if there is none, or a damaged one.

    Every call computes the copy's digest, which takes seconds, where a wrong teacher would cost a run. Of concurrent
    processes one fetches; a killed one leaves nothing that counts.

    Args:
        uri: where the content comes from.
        name: of the copy, for code that depends on its suffix.
        sha256: of the content; empty to fetch whatever is there now.
        fetch: writes the content to a path, as a file or a folder.
        digest: of the content at a path.

    Raises:
        ContentError: the fetched content has another digest.
        InputError: there is no folder for the cache.
    """
    kept = cache_folder() / "sha256"
    copy = kept / sha256 / name
    if sha256 and _has_digest(copy, sha256, digest):
        return copy, sha256
    with _work_folder(uri, sha256) as work:
        # Another process may have fetched it while this one waited.
        if sha256 and _has_digest(copy, sha256, digest):
            return copy, sha256
        fetch(work / name)
        found = digest(work / name)
        require_digest(uri, found, sha256)
        copy = kept / found / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not _has_digest(copy, found, digest):
            # Moved, not deleted: a process with another URI of the same content may be reading it.
            with contextlib.suppress(FileNotFoundError):
                os.replace(copy, work / "damaged")
            try:
                os.replace(work / name, copy)
            except OSError:
                # Such a process may have been faster.
                if not copy.exists():
                    raise
    return copy, found


def _has_digest(copy: Path, sha256: str, digest: Callable[[Path], str]) -> bool:
    try:
        return digest(copy) == sha256
    except (OSError, InputError):
        # There is none, it is being replaced, or a part is missing.
        return False


@contextlib.contextmanager
def _work_folder(uri: str, sha256: str) -> Iterator[Path]:
    """An empty folder for this process alone; a killed process's files in it are deleted."""
    work = cache_folder() / "partial" / sha256_bytes(f"{uri}\0{sha256}".encode())[:16]
    with file_lock(work.with_suffix(".lock")):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
