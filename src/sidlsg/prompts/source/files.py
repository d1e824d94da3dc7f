"""Input files: the files at the URIs that a user names, each with its format, its size and a unique name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes, sha256_file
from sidlsg.storage.store import S3, ObjectState
from sidlsg.storage.uri import BUNDLED, PIN, open_store, resolve, s3_contents, split_s3_uri

PARQUET, TEXT, JSONL, CSV = "parquet", "text", "jsonl", "csv"
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of compressed files; parquet compresses itself."""
_LINES = {".txt": TEXT, ".text": TEXT, ".jsonl": JSONL, ".ndjson": JSONL, ".csv": CSV, ".tsv": CSV}
SUFFIXES = {".parquet": PARQUET, ".parq": PARQUET} | {
    suffix + packed: kind for suffix, kind in _LINES.items() for packed in ("", *PACKED)
}
"""Formats by the end of a file's name, whatever its case."""
MAGIC = b"PAR1"
"""First and last bytes of every parquet file."""
_LABELLED = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)
_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_NULL = "__HIVE_DEFAULT_PARTITION__"
"""A folder's value for rows without one."""
_SHOWN = 5
"""Names that a message lists."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file with rows."""

    place: str
    """An absolute local path or an `s3://` URI."""
    name: str
    """Path relative to the URI that it was found at; unique in a run."""
    label: str
    """Name of its source."""
    format: str
    """`parquet`, `text`, `jsonl` or `csv`."""
    size: int
    """In bytes."""
    version: str = ""
    """Changes with the content: the modification time, or the ETag on S3."""
    folders: str = ""
    """Folders between the URI that it was found at and its own name."""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return not self.place.startswith(S3)

    @property
    def packing(self) -> str:
        """The suffix of `PACKED` that its name ends in, empty for none."""
        return next((suffix for suffix in PACKED if self.place.lower().endswith(suffix)), "")

    @property
    def folder_values(self) -> dict[str, str | None]:
        """Columns named by its folders, as partitioned tables do: COLUMN=VALUE."""
        matches = map(_FOLDER.fullmatch, self.folders.split("/"))
        values = {unquote(match[1]): unquote(match[2]) for match in matches if match}
        return {name: None if value == _NULL else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """Files of a folder or prefix that are not read, for one reason."""

    place: str
    """The folder or prefix as given."""
    reason: str
    count: int
    examples: tuple[str, ...]
    """The first names, relative to the folder."""

    def __str__(self) -> str:
        more = f" and {self.count - len(self.examples):,} more" if self.count > len(self.examples) else ""
        files = "1 file" if self.count == 1 else f"{self.count:,} files"
        return f"passed over {files} in {self.place}, {self.reason}: {', '.join(self.examples)}{more}"


Found = tuple[list[InputFile], list[PassedOver]]


def find_inputs(uris: Sequence[str]) -> list[InputFile]:
    """The files that `search_inputs` finds."""
    return search_inputs(uris)[0]


def search_inputs(uris: Sequence[str]) -> Found:
    """Find the files at some URIs, sorted by label and name, and those that are passed over.

    A file's name is its path relative to its URI. Where files of several URIs would have the same name, as many parent
    folders as needed are put before it.

    Args:
        uris: each a local file or folder, `s3://BUCKET/KEY` of an object or a prefix, or `bundled:NAME`. Folders and
            prefixes are searched at all depths; files are passed over there where a part of their name starts with
            `.` or `_`, or where they end in none of `SUFFIXES`. `LABEL=` before a URI names the source, else its
            last part without suffix does; an existing local path is never taken for a label. A URI may end in
            `@sha256:DIGEST`.

    Raises:
        InputError: there is nothing at a URI, no usable file, or one file is given twice.
        StorageError: the S3 server did not answer.
    """
    if not uris:
        raise InputError(f"no source is given; give files, folders, {S3}BUCKET/PREFIX or {BUNDLED}NAME")
    files: list[InputFile] = []
    passed_over: list[PassedOver] = []
    for given in uris:
        label, uri = _labelled(given)
        found = _on_s3(uri, label) if uri.startswith(S3) and PIN not in uri else _local(uri, label)
        files += found[0]
        passed_over += found[1]
    _refuse_twice(files)
    files = sorted(_with_unique_names(files), key=lambda file: (file.label, file.name))
    return files, sorted(passed_over, key=lambda some: (some.place, some.reason))


def absolute(given: str) -> str:
    """A URI as `search_inputs` takes it, valid in any working directory."""
    label, uri = _labelled(given)
    if "://" in uri or uri.startswith(BUNDLED):
        return given
    path = str(Path(uri).expanduser().absolute())
    return path if uri == given else f"{label}={path}"


def format_of(name: str) -> str:
    """The format by a file's suffix, empty for an unknown one."""
    last = name.rpartition("/")[2].lower()
    return next((kind for suffix, kind in SUFFIXES.items() if last.endswith(suffix) and last != suffix), "")


def _labelled(given: str) -> tuple[str, str]:
    """A source's label and URI; the default label is the URI's last part without suffix, if that is a name."""
    match = _LABELLED.fullmatch(given)
    # Folders of partitioned tables are named COLUMN=VALUE.
    if match and not Path(given).expanduser().exists():
        return match[1], match[2]
    last = given.partition(PIN)[0].removeprefix(BUNDLED).rstrip("/").rpartition("/")[2]
    for suffix in SUFFIXES:
        if last.lower().endswith(suffix) and len(last) > len(suffix):
            return last[: -len(suffix)], given
    return "" if last in (".", "..", "~") else PurePosixPath(last).stem, given


def _local(uri: str, label: str) -> Found:
    path = resolve(uri)
    if path.is_dir():
        # The label of `.` is the name of the folder itself.
        label = label or path.resolve().name or "root"
        found = [(str(file), file.relative_to(path).as_posix()) for file in _walk(path)]
        return _in_folder(str(path), found, label, _local_state)
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder; give one of them")
    return _single(str(path), label, _local_state(str(path)), lambda: _beginning(path))


def _on_s3(uri: str, label: str) -> Found:
    bucket, key = split_s3_uri(uri)
    state, objects = s3_contents(uri)
    # Some servers answer for a folder as if it were an empty object.
    if state is not None and not objects:
        parent, _, name = uri.rpartition("/")
        store = open_store(parent, check=False)
        return _single(uri, label, state, lambda: store.part(name, 0, len(MAGIC)) if state.size else b"")
    if not objects:
        raise InputError(f"there is nothing at {uri}; give the URI of an object, or a prefix with objects")
    prefix = f"{key}/" if key else ""
    states = {f"{S3}{bucket}/{name}": state for name, state in objects}
    found = [(f"{S3}{bucket}/{name}", name.removeprefix(prefix)) for name, _ in objects]
    return _in_folder(uri, found, label, states.__getitem__)


def _single(uri: str, label: str, state: ObjectState, beginning: Callable[[], bytes]) -> Found:
    name = uri.rpartition("/")[2]
    if name.lower().endswith((".json", *(f".json{packed}" for packed in PACKED))):
        raise InputError(
            f"{uri} is JSON, one document that would have to be read whole; "
            "write one object a line, and name the file .jsonl"
        )
    kind = format_of(name) or (PARQUET if beginning() == MAGIC else "")
    if not kind:
        raise InputError(f"{uri} is of no format that is known; give parquet, or a file named {_suffixes()}")
    return [InputFile(place=uri, name=name, label=label, format=kind, **asdict(state))], []


def _in_folder(uri: str, found: Sequence[tuple[str, str]], label: str, state: Callable[[str], ObjectState]) -> Found:
    """The files of a folder or prefix, given by URI and relative name: those with a known suffix, and the others."""
    hidden, foreign, files = [], [], []
    for at, name in found:
        if any(part[:1] in ("", ".", "_") for part in name.split("/")):
            hidden.append(name)
        elif kind := format_of(name):
            files.append((at, name, kind))
        else:
            foreign.append(name)
    if not files:
        others = sorted(name for _, name in found)
        there = f"no source file in {uri}, only {', '.join(others[:_SHOWN])}" if others else f"nothing in {uri}"
        more = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
        raise InputError(
            f"there is {there}{more}; files that end in {_suffixes()} count, "
            "where no part of their name starts with . or _"
        )
    inputs = [
        InputFile(place=at, name=name, label=label, format=kind, folders=name.rpartition("/")[0], **asdict(state(at)))
        for at, name, kind in files
    ]
    reasons = {
        "where a part of the name starts with . or _": hidden,
        "which end in no suffix of a known format": foreign,
    }
    return inputs, [
        PassedOver(place=uri, reason=reason, count=len(names), examples=tuple(sorted(names)[:_SHOWN]))
        for reason, names in reasons.items()
        if names
    ]


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # A link may lead to a folder above it.
        real = os.path.realpath(parent)
        folders.sort()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent) / name for name in sorted(names))


def _local_state(uri: str) -> ObjectState:
    try:
        status = Path(uri).stat()
        return ObjectState(size=status.st_size, version=str(status.st_mtime_ns))
    except OSError as error:
        raise _unreadable(uri, error) from error


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read: {error.strerror}; check its permissions, or where its link leads")


def _refuse_twice(files: Iterable[InputFile]) -> None:
    before: dict[str, str] = {}
    for file in files:
        real = os.path.realpath(file.place) if file.is_local else file.place
        if real in before:
            also = "" if before[real] == file.place else f", also as {before[real]}"
            raise InputError(f"{file.place} is given twice{also}; give each file once, by itself or in one folder")
        before[real] = file.place


def _with_unique_names(files: Sequence[InputFile]) -> list[InputFile]:
    depths = [len(file.name.split("/")) for file in files]
    while True:
        names = [_last_parts(file.place, depth) for file, depth in zip(files, depths, strict=True)]
        counts = Counter(names)
        if len(counts) == len(names):
            return [replace(file, name=name) for file, name in zip(files, names, strict=True)]
        depths = [depth + (counts[name] > 1) for depth, name in zip(depths, names, strict=True)]


def _last_parts(uri: str, count: int) -> str:
    parts = uri.removeprefix(S3).strip("/").split("/")
    # The parts alone do not tell a local path from one on S3.
    return "/".join(parts[-count:]) if count <= len(parts) else uri


def _suffixes() -> str:
    return f".parquet, .parq, {', '.join(_LINES)} (or one of these six and {', '.join(PACKED)})"


def sources_digest(digests: Iterable[str]) -> str:
    """SHA-256 over the files' sorted digests, so that order and names do not count; a single file's own digest."""
    ordered = sorted(digests)
    return ordered[0] if len(ordered) == 1 else sha256_bytes("\n".join(ordered).encode())


def sources_state(uris: Sequence[str]) -> str:
    """SHA-256 of the current files at some URIs: of each its name and its content or, on S3, its size and ETag."""
    lines = []
    for file in find_inputs(uris):
        state = sha256_file(Path(file.place)) if file.is_local else f"{file.size} {file.version}"
        lines.append(f"{file.label}\0{file.name}\0{state}\n")
    return sha256_bytes("".join(lines).encode())


def require_state(uris: Sequence[str], state: str) -> None:
    """Check that the files at some URIs are still those of a `sources_state`.

    Raises:
        InputError: a file was changed, added or removed, or a URI cannot be used.
        StorageError: the S3 server did not answer.
    """
    if sources_state(uris) != state:
        raise InputError(
            f"files at {'; '.join(uris)} were changed after this run began; start another run while nothing "
            "writes there"
        )
