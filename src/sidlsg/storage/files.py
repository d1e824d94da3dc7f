"""Files and folders: digests, and writes that are complete or do not happen."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.runtime.parsing import read_user_text

_BLOCK = 1 << 20
SHA256SUMS = "SHA256SUMS"
"""The file that lists a folder's other files with their digests; written last."""
_SHA256SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n][^\n]*)")
_MARK = ".sidlsg-unfinished"
"""Marks the temporary folder of a writer, which is at work or was killed."""
WORK_MARK = ".sidlsg-work"
"""Marks a folder of unfinished work that a later call continues or deletes."""
_NEW, _OLD = "new", "old"
"""In a writer's folder: the new content, and the earlier one where the two cannot be exchanged in one step."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""From <fcntl.h> and <linux/fs.h>."""


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(folder: Path, paths: Iterable[Path]) -> str:
    """Hex SHA-256 over some files of a folder: each one's relative name and content digest, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def format_sha256sums(digests: Mapping[str, str]) -> str:
    """The text of a `SHA256SUMS` file, which `sha256sum -c` reads: hex SHA-256 by relative file name."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def parse_sha256sums(text: str, source: str) -> dict[str, str]:
    """Hex SHA-256 by relative file name, from the text of a `SHA256SUMS` file.

    Args:
        text: the file's content.
        source: its path or URI, for the message.

    Raises:
        ContentError: a line is not a digest and a file name.
    """
    digests = {}
    for line in text.splitlines():
        found = _SHA256SUMS_LINE.fullmatch(line)
        if found is None:
            raise ContentError(f"{source} has the line {line[:80]!r}, which is not a digest and a file; copy it again")
        digests[found[2]] = found[1]
    return digests


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a file so that readers see the old content or the new one; raises as `atomic_file`."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` if the block succeeds, and is deleted otherwise.

    Raises:
        InputError: the path is a folder, or a part of it is a file.
    """
    _refuse_folder(path)
    _require_folders(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary_folder(path) as own:
            new = own / _NEW
            with new.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
            _sync(path.parent)
    except OSError as error:
        if error.filename is None:
            # A full disk's error names no file, and the message should.
            error.filename = str(path)
        raise


def copy_verified(source: Path, target: Path, sha256: str) -> None:
    """Copy a file, complete or not at all, and check its digest unless `sha256` is empty.

    Raises:
        ContentError: the digest differs; nothing was written.
    """
    digest = hashlib.sha256()
    with source.open("rb") as read, atomic_file(target) as file:
        while block := read.read(_BLOCK):
            digest.update(block)
            file.write(block)
        require_digest(str(source), digest.hexdigest(), sha256)


def require_digest(uri: str, found: str, sha256: str) -> None:
    """Check that content from a URI has the expected digest, unless `sha256` is empty.

    Raises:
        ContentError: it differs.
    """
    if sha256 and found != sha256:
        raise ContentError(
            f"{uri} has SHA-256 {found}, but {sha256} is expected: it was changed or damaged; "
            "use an earlier or another copy, or write it again"
        )


def remove_remains(path: Path) -> None:
    """Delete what killed writers of this file or folder left next to it, and restore an earlier content."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*"):
        # The name alone may be a user's own.
        if (folder / _MARK).is_file():
            _put_back(folder, path)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(target: Path, marker: str) -> Iterator[Path]:
    """Fill a temporary folder that replaces `target` if the block succeeds, and is deleted otherwise.

    Only a folder with a file named `marker`, an earlier output, is replaced; of a link, its target.

    Raises:
        InputError: `target` holds something else.
    """
    refuse_foreign(target, marker)
    if target.is_symlink():
        target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_remains(target)
    with _temporary_folder(target) as own:
        new = own / _NEW
        new.mkdir()
        yield new
        if not target.exists():
            os.replace(new, target)
        elif not _exchange(new, target):
            os.replace(target, own / _OLD)
            os.replace(new, target)
        _sync(target.parent)


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """A temporary folder next to the target, on the same file system."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        (folder / _MARK).touch()
        yield folder
    finally:
        _put_back(folder, target)
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(new: Path, target: Path) -> None:
    """Replace a folder by a finished one; a failure or a kill in between loses neither."""
    remove_remains(target)
    with _temporary_folder(target) as own:
        if target.exists():
            os.replace(target, own / _OLD)
        os.replace(new, target)
        _sync(target.parent)


def _put_back(folder: Path, target: Path) -> None:
    """Restore the earlier content that an interrupted writer had moved away."""
    if not target.exists():
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder / _OLD, target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _sync(folder: Path) -> None:
    """Make renames in a folder survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def folder_lock(folder: Path, busy: str = "") -> Iterator[None]:
    """Lock an existing folder against other processes that call this.

    The lock is on the folder itself: it leaves no file, and ends with the process.

    Raises:
        InputError: another process holds it; `busy` replaces the beginning of the message.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            busy = busy or f"another run is going on in {folder}"
            raise InputError(f"{busy}; wait for it, or give another folder") from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, which is made, and hold it during the block; it ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def refuse_foreign(target: Path, marker: str) -> None:
    """Check that an output folder is new, empty, or an earlier output, which holds `marker`.

    Raises:
        InputError: it is not, or it cannot be a folder.
    """
    _require_folders(target)
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"output {target} is a file; give a folder that is new, empty or an earlier output")
    if any(target.iterdir()) and not (target / marker).exists():
        raise InputError(
            f"output folder {target} holds something else (no {marker} in it); "
            "give a folder that is new, empty or an earlier output"
        )


def folder_below(folder: Path, marker: str) -> str:
    """Advice to give the folder directly below that holds `marker`; empty where none does."""
    found = min(folder.glob(f"*/{marker}"), default=None)
    return "" if found is None else f"give {found.parent}, which has one"


def _require_folders(path: Path) -> None:
    for parent in path.parents:
        # In this order: another process may make the folder between the two checks.
        if not parent.exists():
            continue
        if parent.is_dir():
            return
        raise InputError(f"output {path} cannot be made: {parent} is a file; give a path through folders alone")


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give the name of a file")


def require_writable(folder: Path) -> None:
    """Make an output folder and try to write in it, before the work begins.

    Raises:
        InputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"nothing can be written to {folder.absolute()}: {error.strerror}; give an output elsewhere"
        ) from error


def require_file(path: Path) -> None:
    """Check that an output file can be written, before the work begins.

    Raises:
        InputError: it is a folder, or nothing can be written next to it.
    """
    _refuse_folder(path)
    require_writable(path.parent)


def refuse_inside(target: Path, **inputs: Path) -> None:
    """Check that no input, named for the message, lies inside an output folder, which is replaced as a whole.

    Raises:
        InputError: one does.
    """
    whole = target.resolve()
    for name, path in inputs.items():
        if path.resolve().is_relative_to(whole):
            raise InputError(f"{name} {path} lies inside the output folder {target}, which is replaced; give another")


def read_list(path: Path, what: str, entry: str) -> list[str]:
    """Read a text file of one entry a line, without blanks; `what` and `entry` name the two in messages.

    Raises:
        InputError: it cannot be read, or has no entry.
    """
    allowed = f"UTF-8 text with one {entry} a line"
    if not path.is_file():
        raise InputError(f"no {what} at {path}; give a file of {allowed}")
    try:
        text = read_user_text(path)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}; check its permissions") from error
    entries = [line.strip() for line in text.split("\n") if line.strip()]
    if not entries:
        raise InputError(f"{what} {path} has no {entry}; give {allowed}")
    return entries
