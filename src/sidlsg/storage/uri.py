"""URIs of inputs and stores: a bundled name, a local path or S3, each with an optional variant and digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.cache import fetched
from sidlsg.storage.files import sha256_file
from sidlsg.storage.store import S3, FolderStore, ObjectState, Store, is_hidden

BUNDLED = "bundled:"
"""Starts the name of something inside the package."""
PROMPTS = f"{BUNDLED}prompts/prompts.parquet"
HELD_OUT = f"{BUNDLED}prompts/held_out.txt"
UNSAFE_WORDS = f"{BUNDLED}prompts/unsafe_words.txt"
TEACHER = f"{BUNDLED}tiny-sd"
TEACHERS = (TEACHER, f"{BUNDLED}scenes/tiny-sd", f"{BUNDLED}tiny-sd3")
JUDGE = f"{BUNDLED}judge/judge.safetensors"
SCENES_JUDGE = f"{BUNDLED}scenes/judge/judge.safetensors"
PIN = "@sha256:"
"""Stands between a URI and the digest that its content must have."""
VARIANT = "@variant:"
"""Stands between the URI of a model's folder and a variant of its weights, such as fp16; a digest comes after it."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"\w+", re.ASCII)
_ALLOWED = f"{S3}BUCKET/KEY or {BUNDLED}NAME"


@dataclass(frozen=True, kw_only=True)
class FolderFormat:
    """A kind of folder that may be an input, such as a diffusers pipeline."""

    gather: Callable[[str, Iterable[str], str, Path, Callable[[str, Path], None]], None]
    """Fills a folder with the files of a variant; see `sidlsg.teacher.format.gather`."""
    variant: Callable[[Path, str], Path]
    """A folder that holds the files of a variant of a local folder, under their standard names."""
    check: Callable[[Path], None]
    """Raises InputError for a folder of another format."""
    digest: Callable[[Path], str]


def resolve(uri: str, sha256: str = "", folder: FolderFormat | None = None) -> Path:
    """The local path of a file or a folder, its content checked where a digest is given.

    Content on S3 is fetched into the cache, once for each digest. It needs a digest: a run's records name inputs by
    content, and a shared address may get another one at any time.

    Args:
        uri: `bundled:NAME`, `s3://BUCKET/KEY` of a file or a folder, or a local path; each may end in `@sha256:DIGEST`,
            and a folder's in `@variant:NAME` before that.
        sha256: the digest that the content must have; empty to check only the one in the URI.
        folder: the format of a folder; without it, only a file is accepted.

    Raises:
        ContentError: the content has another digest.
        InputError: there is nothing there, it has another format, or a URI on S3 comes without a digest.
        StorageError: the S3 server failed.
    """
    return resolve_with_digest(uri, sha256, folder)[0]


def resolve_with_digest(uri: str, sha256: str = "", folder: FolderFormat | None = None) -> tuple[Path, str]:
    """`resolve`, and the digest that was checked, so that nobody computes it again; empty where none was given."""
    bare, found = split_pin(uri)
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
    place, variant = _split_variant(bare)
    path = _bundled(place.removeprefix(BUNDLED)) if place.startswith(BUNDLED) else _local(place)
    if variant:
        if folder is None or not path.is_dir():
            raise _no_variants(bare)
        path = folder.variant(path, variant)
    if sha256:
        found = _digest(path, folder)
        if found != sha256:
            raise ContentError(
                f"{bare} has SHA-256 {found}, but {sha256} was given: it was changed, or it is another; "
                "give the digest of this content, or the URI of one that has the digest"
            )
    return path, sha256


def refuse_folder(uri: str, what: str) -> None:
    """Check that a URI is not a local folder where one file is needed, which `what` names.

    Raises:
        InputError: it is a folder.
    """
    bare, _ = split_pin(uri)
    if bare and "://" not in bare and not bare.startswith(BUNDLED) and Path(bare).expanduser().is_dir():
        raise InputError(f"{bare} is a folder; give the URI of one file: {what}")


def uri_digest(uri: str, folder: FolderFormat | None = None) -> str:
    """SHA-256 of a file's content, or of a folder's files as its format counts them; raises as `resolve`."""
    bare, sha256 = split_pin(uri)
    if bare.startswith(S3):
        return _from_s3(bare, sha256, folder)[1]
    path, sha256 = resolve_with_digest(uri, folder=folder)
    return sha256 or _digest(path, folder)


def absolute_uri(uri: str, folder: FolderFormat | None = None) -> tuple[str, Path]:
    """A URI that does not depend on the working folder, and its local path; raises as `resolve`."""
    bare, sha256 = split_pin(uri)
    path = resolve(uri, folder=folder)
    if bare.startswith((S3, BUNDLED)):
        return uri, path
    place, variant = _split_variant(bare)
    whole = with_variant(str(_local(place)), variant)
    return (f"{whole}{PIN}{sha256}" if sha256 else whole), path


def pinned_uri(uri: str, folder: FolderFormat | None = None) -> str:
    """A URI with the digest of its content, which is computed where it has none; raises as `resolve`."""
    bare, sha256 = split_pin(uri)
    return f"{bare}{PIN}{sha256 or _digest(resolve(bare, folder=folder), folder)}"


def split_pin(uri: str) -> tuple[str, str]:
    """The URI without its digest, and the digest; empty where it has none.

    Raises:
        InputError: the digest is not a SHA-256.
    """
    bare, pin, sha256 = uri.rpartition(PIN)
    if not pin:
        return uri, ""
    if not _SHA256.fullmatch(sha256):
        raise InputError(f"{uri} ends in an invalid SHA-256; give {PIN} and 64 digits of 0-9a-f")
    return bare, sha256


def with_variant(uri: str, variant: str) -> str:
    """The URI of a folder's variant; the same URI where the variant is empty.

    Raises:
        InputError: the URI names another variant, or this is no name of one.
    """
    if not variant:
        return uri
    bare, sha256 = split_pin(uri)
    place, found = _split_variant(bare)
    if found not in ("", variant):
        raise InputError(f"{place} is given with two variants, {found} and {variant}; give one")
    whole = f"{place}{VARIANT}{variant}"
    _split_variant(whole)
    return f"{whole}{PIN}{sha256}" if sha256 else whole


def _split_variant(bare: str) -> tuple[str, str]:
    """A URI without its variant, and the variant; empty where it has none."""
    place, mark, variant = bare.rpartition(VARIANT)
    if not mark:
        return bare, ""
    if not _WORD.fullmatch(variant):
        raise InputError(f"{variant!r} is no variant's name; give letters, digits and _, such as fp16 or non_ema")
    return place, variant


def _no_variants(uri: str) -> InputError:
    return InputError(f"{uri} names a variant, which only a folder of a model has; give the URI without {VARIANT}")


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


def _from_s3(uri: str, sha256: str, folder: FolderFormat | None) -> tuple[Path, str]:
    """The cached copy of a file or folder on S3, and its digest."""
    if sha256 and not _SHA256.fullmatch(sha256):
        raise InputError(f"{sha256!r} is not a SHA-256; give 64 digits of 0-9a-f: `sidlsg digest {uri}` prints them")
    place, variant = _split_variant(uri)
    parent, _, name = place.removesuffix("/").rpartition("/")
    if len(parent) <= len(S3):
        raise InputError(f"{uri} is a whole bucket; give {S3}BUCKET/KEY of a file or folder in it")

    def fetch(target: Path) -> None:
        store = open_store(parent, check=False)
        state, objects = s3_contents(place)
        prefix = f"{split_s3_uri(place)[1]}/"
        inside = [inner for key, _ in objects if not is_hidden(inner := key.removeprefix(prefix))]
        if inside and folder is None:
            raise InputError(f"{uri} is a folder; give the URI of one file")
        if inside and folder is not None:
            # Those that the format wants; others, such as pickles of the same model, may be there.
            folder.gather(place, inside, variant, target, lambda inner, path: store.get(f"{name}/{inner}", path))
        elif state is not None and variant:
            raise _no_variants(uri)
        elif state is not None:
            store.get(name, target)
        else:
            raise InputError(f"there is nothing at {place}; give {S3}BUCKET/KEY of an existing file or folder")

    def digest(path: Path) -> str:
        try:
            return _digest(path, folder)
        except InputError as error:
            # A user knows the URI, not the temporary folder.
            raise InputError(str(error).replace(str(path), place.removesuffix("/"))) from error

    return fetched(uri, f"{name}-{variant}" if variant else name, sha256, fetch, digest)


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


def _local(uri: str) -> Path:
    if not uri:
        raise InputError(f"an input's URI is empty; give a local path, {_ALLOWED}")
    if "://" in uri:
        raise InputError(f"{uri} has an unknown scheme; give a local path, {_ALLOWED}")
    path = Path(uri).expanduser().absolute()
    if not path.exists():
        raise InputError(f"there is nothing at {path}; give a local path that exists, {_ALLOWED}")
    return path


def split_list(text: str, separator: str) -> list[str]:
    """The non-empty parts of a text parameter, without blanks around them."""
    return [part.strip() for part in text.split(separator) if part.strip()]


def open_store(uri: str, create: bool = True, check: bool = True) -> Store:
    """The store at a URI.

    Args:
        uri: `s3://BUCKET/PREFIX`, or a local folder.
        create: make a missing local folder; without it, there must be something at the URI. A bucket must exist.
        check: list the S3 prefix now, which needs the right to list; without it, the first request finds an error.

    Raises:
        InputError: the URI cannot be used, or the access is refused.
        StorageError: the server failed.
    """
    if uri.startswith(S3):
        # boto3 takes a third of a second, and local runs do not need it.
        from sidlsg.storage.s3 import S3Store

        return S3Store(uri, create, check)
    return FolderStore(uri, create)


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of a URI on S3, without a slash at the end.

    Raises:
        InputError: it is another kind of URI, or an invalid one.
    """
    bucket, _, key = uri.removeprefix(S3).partition("/")
    key = key.removesuffix("/")
    if not uri.startswith(S3) or not _BUCKET.fullmatch(bucket) or (key and "" in key.split("/")):
        raise InputError(f"{uri} is not a URI on S3; give {S3}BUCKET/PREFIX, the bucket in lower case")
    return bucket, key


def s3_contents(uri: str) -> tuple[ObjectState | None, list[tuple[str, ObjectState]]]:
    """See `sidlsg.storage.s3.contents`."""
    from sidlsg.storage.s3 import contents

    return contents(uri)
