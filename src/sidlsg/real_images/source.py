"""A source of real images: which files it has, of what kind, and the state by which unfinished work is found again."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.runtime.errors import InputError, StorageError
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.store import S3, FolderStore, ObjectState, Store
from sidlsg.storage.uri import BUNDLED, open_store, resolve, s3_contents, split_s3_uri

FOLDER, PARQUET, TARS = "image folder", "parquet", "tars"
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_KINDS = {PARQUET: (".parquet",), TARS: (".tar", ".tar.gz", ".tgz"), FOLDER: IMAGES}
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Tables of an image folder, as of Hugging Face's `imagefolder`: the column `file_name`, and one with captions."""
CAPTIONS = "captions.txt"
"""Captions of an image folder, one a line, in the order of the files' names."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source's files."""

    uri: str
    """As given."""
    store: Store
    kind: str
    """`image folder`, `parquet` or `tars`."""
    names: tuple[str, ...]
    """Its images, tables or tars in the store, sorted."""
    others: tuple[str, ...]
    """The other files of an image folder, among them its captions."""
    state: str
    """SHA-256 over names, sizes and versions: the time of the last change, or the ETag on S3."""

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A file on this machine: itself, or a temporary copy of one on S3."""
        if isinstance(self.store, FolderStore):
            yield self.store.folder / name
            return
        with tempfile.TemporaryDirectory(prefix="sidlsg-images-") as scratch:
            path = Path(scratch) / "copy"
            self.store.get(name, path)
            yield path

    def place(self, name: str) -> str:
        """A file's URI or path, for messages."""
        return f"{self.store.uri.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Raise a disk's errors in the block as the project's, with the file's name."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
                raise InputError(
                    f"{self.place(name)} cannot be read: {error.strerror}; check that it exists, and its permissions"
                ) from error
            raise StorageError(
                f"{self.place(name)} cannot be read: {error.strerror or error}; check the disk, and run the same "
                "command again"
            ) from error


def find_source(uri: str) -> Source:
    """The files at a URI: a local file or folder, `s3://BUCKET/KEY` of an object or a prefix, or `bundled:NAME`.

    A folder is searched at all depths, and hidden files are ignored. Its first kind of these counts: parquet, tars,
    images. Tables of captions beside images belong to the images.

    Raises:
        InputError: nothing usable is there.
        StorageError: the S3 server failed.
    """
    store, states = _on_s3(uri) if uri.startswith(S3) else _local(uri)
    names = sorted(states)
    kind = _kind(names)
    if kind is None:
        there = f"only {', '.join(names[:5])}" if names else "nothing"
        raise InputError(
            f"{uri} has {there}, and so no real images; give a folder of images with captions, parquet files or "
            "webdataset tars"
        )
    own = tuple(name for name in names if name.lower().endswith(_KINDS[kind]))
    lines = [f"{name}\0{states[name].size}\0{states[name].version}\n" for name in names]
    return Source(
        uri=uri,
        store=store,
        kind=kind,
        names=own,
        others=tuple(name for name in names if name not in set(own)) if kind == FOLDER else (),
        state=sha256_bytes("".join(lines).encode()),
    )


def _kind(names: Sequence[str]) -> str | None:
    for kind, suffixes in _KINDS.items():
        if any(name.lower().endswith(suffixes) and name.rpartition("/")[2] not in METADATA for name in names):
            return kind
    return None


def _local(uri: str) -> tuple[Store, dict[str, ObjectState]]:
    if "://" in uri:
        raise InputError(f"{uri} has an unknown scheme; give a local path, {S3}BUCKET/KEY or {BUNDLED}NAME")
    path = resolve(uri) if uri.startswith(BUNDLED) else Path(uri).expanduser().absolute()
    if not path.exists():
        raise InputError(f"there is nothing at {path}; give real images: a folder, parquet files or tars")
    store = FolderStore(str(path if path.is_dir() else path.parent), create=False)
    names = store.names() if path.is_dir() else [path.name]
    return store, {name: _state(store.folder / name) for name in names}


def _state(path: Path) -> ObjectState:
    status = path.stat()
    return ObjectState(size=status.st_size, version=str(status.st_mtime_ns))


def _on_s3(uri: str) -> tuple[Store, dict[str, ObjectState]]:
    _, key = split_s3_uri(uri)
    state, objects = s3_contents(uri)
    if state is not None and not objects:
        parent, _, name = uri.rpartition("/")
        return open_store(parent, check=False), {name: state}
    prefix = f"{key}/" if key else ""
    found = {name.removeprefix(prefix): each for name, each in objects}
    shown = {name: each for name, each in found.items() if not any(part[:1] in (".", "") for part in name.split("/"))}
    return open_store(uri, check=False), shown


def settled_source(real_images: Mapping[str, str]) -> str:
    """A recipe's `real_images` and the state of their source as JSON, for the step `encode`; empty if it has none.

    Raises:
        InputError: there are no images at the source.
        StorageError: the S3 server did not answer.
    """
    if not real_images:
        return ""
    return json.dumps({**real_images, "state": find_source(real_images["source"]).state}, sort_keys=True)
