"""JSON lines as sources: one object a line, its keys as columns; a line that is none is broken, not an error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.columns import NUMBERS, STRINGS, is_needless, match_columns, require_columns, wrong_kind
from sidlsg.prompts.source.inputs import InputFile
from sidlsg.prompts.source.lines import longest, read_lines

SAMPLE = 1000
"""Lines at the beginning of a file that say which keys it has."""
_LAYOUTS = 1000
"""Sets of keys whose meanings are remembered; files whose objects all differ would fill the memory."""
_CHECK_BLOCK = 256 << 10


def object_columns(path: Path, file: InputFile, rules: CurationRules) -> set[str]:
    """The meanings that some of a file's first objects have keys for.

    Raises:
        InputError: the file cannot be read, none of them has a key that the rules need, or all values of a key are of
            another kind than its meaning.
        StorageError: the disk or the network did not give it.
    """
    blocks = read_lines(path, file, 0, 0, longest(rules), _CHECK_BLOCK)
    lines = list(islice((line for _, some in blocks for line in some), SAMPLE))
    objects = [found for line in lines if (found := _object(line)) is not None]
    if not lines:
        return set()
    if not objects:
        raise InputError(
            f"{file.place} has no JSON object in its first {len(lines)} lines; give one object a line, or name the "
            "file .txt where its lines are the texts"
        )
    names = list(dict.fromkeys(key for found in objects for key in found))
    columns: dict[str, str] = {}
    misfits: dict[str, tuple[str, str]] = {}
    for found in objects:
        for meaning, key in match_columns(list(found), file, rules).items():
            columns.setdefault(meaning, key)
            if _fits(meaning, found[key]):
                misfits[meaning] = ("", "")
            elif found[key] is not None:
                misfits.setdefault(meaning, (key, type(found[key]).__name__))
    # A few values of another kind are rows without one; a key with no others means something else.
    for meaning, (key, holds) in misfits.items():
        if key and not is_needless(meaning, rules):
            raise wrong_kind(key, meaning, holds, file, names)
    require_columns(columns.keys(), file, rules, names, f" in its first {len(lines):,} lines")
    return set(columns)


def parse_lines(lines: Sequence[bytes], rules: CurationRules, file: InputFile) -> pl.DataFrame:
    """The objects of some lines as columns of their meanings, with `broken` for lines that are none."""
    layouts: dict[tuple[str, ...], dict[str, str] | None] = {}
    texts: list[str | None] = []
    broken: list[bool] = []
    values: dict[str, list[Any]] = {meaning: [] for meaning in (*NUMBERS, *STRINGS)}
    readers: dict[str, Callable[[Any], Any]] = dict.fromkeys(NUMBERS, _number) | dict.fromkeys(STRINGS, _string)
    for line in lines:
        found = _object(line)
        keys = None if found is None else _layout(found, layouts, rules, file)
        if found is None or keys is None:
            texts.append(None)
            broken.append(True)
            for column in values.values():
                column.append(None)
            continue
        given = found.get(keys["text"]) if "text" in keys else None
        text = _string(given)
        # What a table says of safety in a way that cannot be read is not taken for silence.
        unread = any(
            meaning in keys and found[keys[meaning]] is not None and not _fits(meaning, found[keys[meaning]])
            for meaning in ("punsafe", "nsfw")
        )
        texts.append(None if unread else text)
        broken.append(unread or (text is None and given is not None))
        for meaning, column in values.items():
            column.append(readers[meaning](found[keys[meaning]]) if meaning in keys else None)
    numbers = {meaning: pl.Series(values[meaning], dtype=pl.Float64) for meaning in NUMBERS}
    strings = {meaning: pl.Series(values[meaning], dtype=pl.String) for meaning in STRINGS}
    first = {"text": pl.Series(texts, dtype=pl.String), "broken": pl.Series(broken, dtype=pl.Boolean)}
    return pl.DataFrame(first | numbers | strings)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line.decode())
    # Too many digits or too deep a nesting are errors of these kinds, too.
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _layout(
    found: dict[str, Any],
    layouts: dict[tuple[str, ...], dict[str, str] | None],
    rules: CurationRules,
    file: InputFile,
) -> dict[str, str] | None:
    """Which key each meaning has in an object; None where two keys fit one name."""
    keys = tuple(found)
    if keys not in layouts:
        if len(layouts) >= _LAYOUTS:
            layouts.clear()
        try:
            layouts[keys] = match_columns(keys, file, rules)
        except InputError:
            layouts[keys] = None
    return layouts[keys]


def _fits(meaning: str, value: Any) -> bool:
    return isinstance(value, bool | int | float) if meaning in NUMBERS else isinstance(value, str)


def _string(value: Any) -> str | None:
    """A string, unless it is none or has halves of surrogate pairs, which JSON can escape and UTF-8 cannot hold."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _number(value: Any) -> float | None:
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
