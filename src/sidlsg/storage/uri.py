"""Where a stage's outside inputs lie: a bundled name, a local path or S3, and whether it holds what was promised."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sidlsg.runtime.errors import AccessError, ContentError, InputError, MissingError
from sidlsg.storage.cache import fetched
from sidlsg.storage.files import (
    sha256_file,
)
from sidlsg.storage.store import S3, FolderStore, ObjectState, Store

BUNDLED = "bundled:"
"""Starts the name of something inside the package."""
PROMPTS = f"{BUNDLED}prompts/prompts.parquet"
HELD_OUT = f"{BUNDLED}prompts/held_out.txt"
UNSAFE_WORDS = f"{BUNDLED}prompts/unsafe_words.txt"
TEACHER = f"{BUNDLED}tiny-sd"
JUDGE = f"{BUNDLED}judge/judge.safetensors"


PIN = "@sha256:"
"""Stands between a place and the digest that its content must have."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FolderFormat:
    """What a folder must be to stand for one content: its check, its digest, and which of its files count."""

    wanted: Callable[[str], bool]
    """Whether a file is fetched from S3, by its name in the folder."""
    check: Callable[[Path], None]
    """Raises InputError for a folder of another format."""
    digest: Callable[[Path], str]


def resolve(place: str, sha256: str = "", folder: FolderFormat | None = None) -> Path:
    """Find a file or a diffusers folder, and check its content where a digest is given.

    What lies on S3 is fetched into the cache, once for each digest, and needs one: a run's records name its inputs
    by content, and what lies behind a shared address may be replaced at any time.

    Args:
        place: `bundled:NAME` for what the package brings, `s3://BUCKET/KEY` for a file or a folder on S3, else a local
            path; each may end in `@sha256:DIGEST`.
        sha256: what `place_digest` must be; empty for no check but that of the place itself.

    Raises:
        ContentError: its content is another.
        InputError: there is nothing there, the place is of another kind, or one on S3 comes without a digest.
        StorageError: the S3 server did not give it.
    """
    return resolve_checked(place, sha256, folder)[0]


def resolve_checked(place: str, sha256: str = "", folder: FolderFormat | None = None) -> tuple[Path, str]:
    """`resolve`, and the digest that the content was found to have; empty where no digest was given.

    Who needs the digest of a model of gigabytes need not read it a second time.
    """
    bare, found = split_pin(place)
    if found and sha256 not in ("", found):
        raise InputError(f"{bare} is given with two digests, {found} and {sha256}; give one")
    sha256 = found or sha256
    if bare.startswith(S3):
        if not sha256:
            raise InputError(
                f"{bare} is on S3 and comes without a digest, so that nobody could say what a run used; "
                f"`sidlsg digest {bare}` prints it: give {bare}{PIN}DIGEST"
            )
        return _from_s3(bare, sha256, folder)
    path = _bundled(bare.removeprefix(BUNDLED)) if bare.startswith(BUNDLED) else _local(bare)
    if sha256:
        found = _digest(path, folder)
        if found != sha256:
            raise ContentError(
                f"{bare} has SHA-256 {found}, but {sha256} was given: it was changed, or it is another; "
                "give the digest of this content, or the place of one that has the digest"
            )
    return path, sha256


def refuse_folder(place: str, what: str) -> None:
    """Check that a place on this machine is no folder, where a file is needed: elsewhere one may be a teacher.

    Args:
        place: as `resolve` takes it.
        what: is needed, for the message.

    Raises:
        InputError: it is a folder.
    """
    bare, _ = split_pin(place)
    if bare and "://" not in bare and not bare.startswith(BUNDLED) and Path(bare).expanduser().is_dir():
        raise InputError(f"{bare} is a folder; give the place of one file: {what}")


def place_digest(place: str, folder: FolderFormat | None = None) -> str:
    """SHA-256 of a file's content, or of a diffusers folder's model files.

    Raises:
        InputError: there is nothing there, or it is a folder of another kind.
        StorageError: the S3 server did not give it.
    """
    bare, sha256 = split_pin(place)
    if bare.startswith(S3):
        return _from_s3(bare, sha256, folder)[1]
    path, sha256 = resolve_checked(place, folder=folder)
    return sha256 or _digest(path, folder)


def located(place: str, folder: FolderFormat | None = None) -> tuple[str, Path]:
    """A place that means the same in another folder, and where its content is on this machine.

    Raises:
        InputError: there is nothing there, its content is not what its digest says, or it is of another kind.
    """
    bare, sha256 = split_pin(place)
    path = resolve(place, folder=folder)
    if bare.startswith((S3, BUNDLED)):
        return place, path
    return (f"{path}{PIN}{sha256}" if sha256 else str(path)), path


def pinned(place: str, folder: FolderFormat | None = None) -> str:
    """A place with the digest that its content has now, as `resolve` takes it; one that has a digest stays as it is.

    Raises:
        InputError: there is nothing there, the place is of another kind, or one on S3 comes without a digest.
    """
    bare, sha256 = split_pin(place)
    return f"{bare}{PIN}{sha256 or _digest(resolve(bare, folder=folder), folder)}"


def split_pin(place: str) -> tuple[str, str]:
    """The place alone, and the digest at its end; empty where it has none.

    Raises:
        InputError: what stands at the end is no digest.
    """
    bare, pin, sha256 = place.rpartition(PIN)
    if not pin:
        return place, ""
    if not _SHA256.fullmatch(sha256):
        raise InputError(f"{place} ends in an invalid SHA-256; give {PIN} and 64 digits of 0-9a-f")
    return bare, sha256


def _digest(path: Path, folder: FolderFormat | None) -> str:
    if path.is_dir():
        if folder is None:
            raise InputError(f"{path} is a folder; give the URI of one file")
        folder.check(path)
        return folder.digest(path)
    try:
        return sha256_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


def _from_s3(place: str, sha256: str, folder: FolderFormat | None) -> tuple[Path, str]:
    """The cache's copy of a file or folder on S3, and its digest."""
    if sha256 and not _SHA256.fullmatch(sha256):
        raise InputError(f"{sha256!r} is no SHA-256; give 64 digits of 0-9a-f: `sidlsg digest {place}` prints them")
    parent, _, name = place.removesuffix("/").rpartition("/")
    if len(parent) <= len(S3):
        raise InputError(f"{place} is a whole bucket; give {S3}BUCKET/KEY of a file or folder in it")

    def fetch(target: Path) -> None:
        store = open_store(parent, check=False)
        refused: AccessError | None = None
        if not place.endswith("/"):
            # The object itself first: its reader may have no right to list.
            try:
                store.get(name, target)
                # Some servers answer for a folder as if it were an empty object.
                if target.stat().st_size or not _lists(store, f"{name}/"):
                    return
                target.unlink()
            except MissingError:
                pass
            except AccessError as error:
                refused = error  # to who may not list the bucket, what is not there is refused
        try:
            _fetch_folder(store, f"{name}/", place, target, folder)
        except InputError as error:
            raise refused or error from error

    def digest(path: Path) -> str:
        try:
            return _digest(path, folder)
        except InputError as error:
            # A user knows the place, not the folder that its copy is made in.
            raise InputError(str(error).replace(str(path), place.removesuffix("/"))) from error

    return fetched(place, name, sha256, fetch, digest)


def _lists(store: Store, prefix: str) -> bool:
    """Whether there are objects under a prefix, as far as this caller may know."""
    try:
        return bool(store.names(prefix))
    except AccessError:
        return False


def _fetch_folder(store: Store, prefix: str, place: str, target: Path, folder: FolderFormat | None) -> None:
    """Fetch what a diffusers folder is made of; checkpoints and pickles of the same model may lie beside it."""
    names = store.names(prefix)
    if names and folder is None:
        raise InputError(f"{place} is a folder; give the URI of one file")
    if not names or folder is None:
        raise InputError(f"there is nothing at {place}; give {S3}BUCKET/KEY of a file or folder that is there")
    for name in names:
        inner = name.removeprefix(prefix)
        if folder.wanted(inner):
            store.get(name, target / inner)


def _bundled(name: str) -> Path:
    root = Path(str(files("sidlsg.assets"))).resolve()
    path = (root / name).resolve()
    if path == root or not path.is_relative_to(root) or not path.exists():
        names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("_"))
        raise InputError(
            f"nothing bundled is named {name!r}; the package brings the folders: {', '.join(names)}; "
            "give one of them, a file in it, or a local path"
        )
    return path


def _local(place: str) -> Path:
    if not place:
        raise InputError(f"an input's place is empty; give a local path, {S3}BUCKET/KEY or {BUNDLED}NAME")
    if "://" in place:
        raise InputError(f"{place} is an address; give a local path, {S3}BUCKET/KEY or {BUNDLED}NAME")
    path = Path(place).expanduser().absolute()
    if not path.exists():
        raise InputError(f"there is nothing at {path}; give a local path that exists, {S3}BUCKET/KEY or {BUNDLED}NAME")
    return path


def split_list(text: str, separator: str) -> list[str]:
    """The parts of a text parameter, without blanks around them; none for an empty one."""
    return [part.strip() for part in text.split(separator) if part.strip()]


def open_store(place: str, create: bool = True, check: bool = True) -> Store:
    """The store at a place.

    Args:
        place: `s3://BUCKET/PREFIX`, or a local folder.
        create: make a local folder that is not there; without it, there must be something at the place. A bucket must
            exist in either case.
        check: ask the S3 server about the prefix now, which needs the right to list it. Without it, who reads one
            object needs the right to read that one alone; what is wrong with the place is said by the first request.

    Raises:
        InputError: the place cannot be used, or the access is refused.
        StorageError: the server does not answer.
    """
    if place.startswith(S3):
        # Imported here: boto3 takes a third of a second, and local runs do without.
        from sidlsg.storage.s3 import S3Store

        return S3Store(place, create, check)
    return FolderStore(place, create)


def split_place(place: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` place; a slash at the end does not count.

    Raises:
        InputError: it is none.
    """
    bucket, _, key = place.removeprefix(S3).partition("/")
    key = key.removesuffix("/")
    if not place.startswith(S3) or not _BUCKET.fullmatch(bucket) or (key and "" in key.split("/")):
        raise InputError(f"{place} is no place on S3; give {S3}BUCKET/PREFIX, the bucket in lower case")
    return bucket, key


def s3_contents(place: str) -> tuple[ObjectState | None, list[tuple[str, ObjectState]]]:
    """See `sidlsg.storage.s3.contents`."""
    from sidlsg.storage.s3 import contents

    return contents(place)


def s3_beginning(place: str, count: int) -> bytes:
    """See `sidlsg.storage.s3.first_bytes`."""
    from sidlsg.storage.s3 import first_bytes

    return first_bytes(place, count)
