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
from sidlsg.runtime.text_files import read_user_text

_BLOCK = 1 << 20
"""Bytes that a copy reads at once."""
SHA256SUMS = "SHA256SUMS"
"""The file that lists a folder's other files with their digests; written last."""
_SHA256SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n][^\n]*)")
_MARK = ".sidlsg-unfinished"
"""Marks a writer's own folder beside its target: while it is there, the writer works, or was killed."""
WORK_MARK = ".sidlsg-work"
"""In a folder of work that a later call continues or clears away; its name may be one that a user chose."""
_NEW, _OLD = "new", "old"
"""What a writer's folder holds: the coming content, and the earlier one where the two cannot be exchanged at once."""
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
    """Write a file so that readers see the old content or the new, never a part.

    Raises:
        InputError: the path is a folder, or a part of it is a file.
    """
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Fill a new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Yields:
        The open file; until the block ends, its `name` is that of a temporary file on the same file system.

    Raises:
        InputError: the path is a folder, or a part of it is a file.
    """
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give the name of a file")
    _require_folders(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _beside(path) as own:
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
    """Copy a file; the copy takes its place only if what was read has the digest.

    Args:
        source: the file.
        target: the copy, which appears whole.
        sha256: of the content; empty for no check.

    Raises:
        ContentError: the content is another; nothing was written.
    """
    digest = hashlib.sha256()
    with source.open("rb") as read, atomic_file(target) as file:
        while block := read.read(_BLOCK):
            digest.update(block)
            file.write(block)
        require_digest(str(source), digest.hexdigest(), sha256)


def require_digest(place: str, found: str, sha256: str) -> None:
    """Check a content's digest.

    Args:
        place: where the content came from, for the message.
        found: its SHA-256.
        sha256: what it must be; empty for no check.

    Raises:
        ContentError: it is another.
    """
    if sha256 and found != sha256:
        raise ContentError(
            f"{place} has SHA-256 {found}, but {sha256} is expected: it was changed or damaged; "
            "use an earlier or another copy, or write it again"
        )


def remove_remains(path: Path) -> None:
    """Delete what writers of this very file or folder that were killed left beside it, and bring an old one back."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*"):
        # A name alone says nothing: a user may give it to a folder of theirs.
        if (folder / _MARK).is_file():
            _put_back(folder, path)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(target: Path, marker: str) -> Iterator[Path]:
    """Fill a new folder that replaces `target` when the block ends well, and vanishes when it does not.

    Args:
        target: where the folder goes.
        marker: a file name that our own earlier output at `target` holds; anything else there is not replaced.

    Raises:
        InputError: `target` exists and holds something else.
    """
    refuse_foreign(target, marker)
    if target.is_symlink():
        # What it leads to is replaced, and not the link.
        target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_remains(target)
    with _beside(target) as own:
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
def _beside(target: Path) -> Iterator[Path]:
    """A writer's own folder beside its target, on the same file system; it ends with the block."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        (folder / _MARK).touch()
        yield folder
    finally:
        _put_back(folder, target)
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(new: Path, target: Path) -> None:
    """Let a finished folder take the place of another. Whatever fails or is killed meanwhile, neither is lost."""
    remove_remains(target)
    with _beside(target) as own:
        if target.exists():
            os.replace(target, own / _OLD)
        os.replace(new, target)
        _sync(target.parent)


def _put_back(folder: Path, target: Path) -> None:
    """Give the earlier output its place again, where a writer moved it away and did not get further."""
    if not target.exists():
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder / _OLD, target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders at once; False where the system or the file system cannot."""
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
    """Let what was renamed in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone_in(folder: Path, what: str = "") -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder.

    Args:
        folder: an existing one.
        what: goes on in there, for the message; by default a run.

    Raises:
        InputError: one is in there.
    """
    # A lock on the folder itself: it leaves no file behind, and ends with the process however that ends.
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            busy = what or f"another run is going on in {folder}"
            raise InputError(f"{busy}; wait for it, or give another folder") from error
        yield
    finally:
        os.close(handle)


def refuse_foreign(target: Path, marker: str) -> None:
    """Check that an output folder is free, empty, or an earlier output of the same kind.

    Raises:
        InputError: it is a file, lies under a file, or holds other things.
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


def _require_folders(path: Path) -> None:
    for parent in path.parents:
        # In this order: another process may make the folder between two questions.
        if not parent.exists():
            continue
        if parent.is_dir():
            return
        raise InputError(f"output {path} cannot be made: {parent} is a file; give a path through folders alone")


def require_writable(folder: Path) -> None:
    """Make a folder and try to write in it, before work begins that ends there.

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
    """Check that a file can be written at a path, before work begins that ends there.

    Raises:
        InputError: it is a folder, or nothing can be written beside it.
    """
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give the name of a file")
    require_writable(path.parent)


def refuse_inside(target: Path, **places: Path) -> None:
    """Check that nothing that is needed lies inside an output folder, which is replaced as a whole.

    Raises:
        InputError: one of the places, named as the caller names it, is the target or lies in it.
    """
    whole = target.resolve()
    for name, place in places.items():
        if place.resolve().is_relative_to(whole):
            raise InputError(f"{name} {place} lies inside the output folder {target}, which is replaced; give another")


def read_list(path: Path, what: str, entry: str) -> list[str]:
    """Read a list: UTF-8 or marked UTF-16 text, one entry a line; blank lines are ignored.

    Args:
        path: of the file.
        what: it is, for messages.
        entry: what one line holds, for messages.

    Returns:
        The lines without blanks around them.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it has no entry.
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
