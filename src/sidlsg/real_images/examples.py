"""Examples: the images of a source with their captions, in order, from any position in it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from sidlsg.real_images.source import CAPTIONS, IMAGES, METADATA, PARQUET, TARS, Source
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

TEXTS = ("text", "caption", "prompt")
"""Names of a column, or of a key in a tar's JSON, that holds captions; the first that is there counts."""
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
"""Names of a parquet column that holds encoded images: bytes, or a struct with `bytes` as of Hugging Face's `Image`."""
ROWS = 64
"""Rows of a parquet file in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image of a source."""

    name: str
    """For messages."""
    image: bytes | None
    """An encoded image; None where there is none."""
    caption: str | None
    after: tuple[int, int]
    """The position of the next example: the number of its file, and its own in the file."""


def read_examples(source: Source, start: tuple[int, int] = (0, 0)) -> Iterator[Example]:
    """The examples of a source from a position, one in memory at a time.

    Raises:
        InputError: a file is truncated or damaged, or captions and images do not belong together.
        StorageError: the disk or the network failed.
    """
    if source.kind not in (PARQUET, TARS):
        yield from _of_folder(source, start[1])
        return
    read = _of_parquet if source.kind == PARQUET else _of_tar
    for number in range(start[0], len(source.names)):
        name, first = source.names[number], start[1] if number == start[0] else 0
        with source.reading(name), source.local(name) as path:
            for index, (which, image, caption) in enumerate(read(path, source.place(name), first), first):
                yield Example(name=which, image=image, caption=caption, after=(number, index + 1))


Found = tuple[str, bytes | None, str | None]


def _of_folder(source: Source, first: int) -> Iterator[Example]:
    captions = _folder_captions(source)
    for index in range(first, len(source.names)):
        name = source.names[index]
        with source.reading(name):
            image, caption = source.store.read(name), captions(name)
        yield Example(name=source.place(name), image=image, caption=caption, after=(0, index + 1))


def _folder_captions(source: Source) -> Callable[[str], str | None]:
    """The caption of an image, by its name."""
    lists = [name for name in source.others if PurePosixPath(name).name in (*METADATA, CAPTIONS)]
    if len(lists) > 1 and any(PurePosixPath(name).name == CAPTIONS for name in lists):
        raise InputError(f"{source.uri} has captions in {' and '.join(lists)}; keep one of them")
    if not lists:
        texts = set(source.others)

        def beside(name: str) -> str | None:
            other = f"{name.rpartition('.')[0]}.txt"
            return source.store.read(other).decode("utf-8", "replace") if other in texts else None

        return beside
    if PurePosixPath(lists[0]).name == CAPTIONS:
        lines = source.store.read(lists[0]).decode("utf-8-sig", "replace").splitlines()
        if len(lines) != len(source.names):
            raise InputError(
                f"{source.place(lists[0])} has {len(lines):,} captions, but there are {len(source.names):,} images in "
                f"{source.uri}; give one line an image, in the order of the files' names"
            )
        return dict(zip(source.names, lines, strict=True)).get
    found: dict[str, str | None] = {}
    for name in lists:
        found |= _metadata(source, name)
    if absent := sorted(found.keys() - set(source.names)):
        raise InputError(
            f"{' and '.join(lists)} of {source.uri} names {len(absent):,} images that are not there, such as "
            f"{absent[0]}; add them, or remove their rows"
        )
    return found.get


def _metadata(source: Source, name: str) -> dict[str, str | None]:
    """Captions by the images' names, as a table beside them has them."""
    readers: dict[str, Callable[[Any], pa.Table]] = {
        ".jsonl": pyarrow.json.read_json,
        ".csv": pyarrow.csv.read_csv,
        ".parquet": pq.read_table,
    }
    try:
        table = readers[PurePosixPath(name).suffix](io.BytesIO(source.store.read(name)))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source.place(name), "a table", error) from error
    if "file_name" not in table.column_names:
        raise InputError(f"{source.place(name)} has no column 'file_name'; it has: {', '.join(table.column_names)}")
    folder = name.rpartition("/")[0]
    files = [f"{folder}/{file}" if folder else str(file) for file in table["file_name"].to_pylist()]
    return dict(zip(files, table[_text_column(table.schema, source.place(name))].to_pylist(), strict=True))


def _of_parquet(path: Path, place: str, first: int) -> Iterator[Found]:
    try:
        with pq.ParquetFile(path) as table:
            text, image = _text_column(table.schema_arrow, place), _image_column(table.schema_arrow, place)
            skipped = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if skipped + rows <= first:
                    skipped += rows
                    continue
                for batch in table.iter_batches(ROWS, row_groups=[group], columns=[text, image]):
                    for value, caption in zip(batch[image].to_pylist(), batch[text].to_pylist(), strict=True):
                        if skipped >= first:
                            data = value.get("bytes") if isinstance(value, Mapping) else value
                            yield f"row {skipped} of {place}", data, caption
                        skipped += 1
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _damaged(place, "parquet", error) from error


def _text_column(schema: pa.Schema, place: str) -> str:
    """The column of captions: strings."""
    return _column(schema, TEXTS, lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), place)


def _image_column(schema: pa.Schema, place: str) -> str:
    def encoded(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    return _column(schema, IMAGE_COLUMNS, encoded, place)


def _column(schema: pa.Schema, names: tuple[str, ...], fits: Callable[[pa.DataType], bool], place: str) -> str:
    by_name = {field.name.lower(): field for field in reversed(schema)}
    for name in names:
        if name in by_name and fits(by_name[name].type):
            return str(by_name[name].name)
    has = ", ".join(f"{field.name} ({field.type})" for field in schema) or "no columns"
    what = "bytes of images" if names is IMAGE_COLUMNS else "captions"
    raise InputError(f"{place} has no column of {what}, named one of {', '.join(names)}; it has: {has}")


def _of_tar(path: Path, place: str, first: int) -> Iterator[Found]:
    """The samples of a webdataset tar: consecutive files whose names are equal up to the first dot."""
    try:
        with tarfile.open(path, tarinfo=_Member) as tar:
            for index, (key, members) in enumerate(_samples(tar)):
                if index < first:
                    continue
                image = next((members[kind] for kind in members if f".{kind.rpartition('.')[2]}" in IMAGES), None)
                data = None if image is None else _content(tar, image)
                yield f"{key} in {place}", data, _caption(tar, members)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _damaged(place, "a tar", error) from error


class _Member(tarfile.TarInfo):
    """A file of a tar; a damaged or missing header is an error here, where `tarfile` takes it for the tar's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """The next header; raises ReadError where there is neither one nor the marker of the end."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} where a file or the tar's end should begin") from error


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    key, members = "", dict[str, tarfile.TarInfo]()
    for member in tar:
        folder, _, file = member.name.rpartition("/")
        stem, dot, kind = file.partition(".")
        if not member.isfile() or not stem or not dot:
            continue
        if f"{folder}/{stem}" != key and members:
            yield key.removeprefix("/"), members
            members = {}
        key = f"{folder}/{stem}"
        members.setdefault(kind.lower(), member)
    if members:
        yield key.removeprefix("/"), members


def _caption(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> str | None:
    for kind in ("txt", "caption"):
        if kind in members:
            return _content(tar, members[kind]).decode("utf-8", "replace")
    if "json" not in members:
        return None
    try:
        values = parse_json(_content(tar, members["json"]))
    except ValueError:
        return None
    values = values if isinstance(values, dict) else {}
    return next((values[name] for name in TEXTS if isinstance(values.get(name), str)), None)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) != member.size:
        raise tarfile.ReadError(f"unexpected end of data in {member.name}")
    return data


def _damaged(place: str, kind: str, error: Exception) -> InputError:
    first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return InputError(
        f"{place} cannot be read as {kind}: it is truncated or damaged ({first}); fetch or write it again"
    )
