"""JSON lines as sources: one object a line, its keys as columns; any other line is a row with a problem."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.arrays import decoded
from sidlsg.prompts.source.columns import NUMBERS, STRINGS, is_needless, match_columns, require_columns, wrong_kind
from sidlsg.prompts.source.files import InputFile
from sidlsg.prompts.source.lines import longest, read_lines
from sidlsg.prompts.source.problems import GIVEN, NO_OBJECT, NOT_A_NUMBER, NOT_A_STRING, NOT_UTF8, UNREAD_SAFETY
from sidlsg.runtime.errors import InputError

SAMPLE = 1000
"""Lines at the beginning of a file whose keys count as its columns."""
_LAYOUTS = 1000
"""Sets of keys whose meanings are cached: a bound for files whose objects all differ."""
_CHECK_BLOCK = 256 << 10


def object_columns(path: Path, file: InputFile, rules: CurationRules) -> set[str]:
    """The meanings that some of a file's first objects have keys for."""
    blocks = read_lines(path, file, 0, 0, longest(rules), _CHECK_BLOCK)
    lines = list(islice((line for _, some in blocks for line in some), SAMPLE))
    objects = [found for line in lines if (found := _object(decoded(line, rules.text.encoding))) is not None]
    if not lines:
        return set()
    if not objects:
        raise InputError(
            f"{file.place} has no JSON object in its first {len(lines)} lines; give one object a line, or name the "
            "file .txt where its lines are the texts"
        )
    kinds = {key: _kinds([found.get(key) for found in objects]) for key in dict.fromkeys(chain.from_iterable(objects))}
    columns: set[str] = set()
    misfits: dict[str, tuple[str, str]] = {}
    for found in objects:
        for meaning, key in match_columns(list(found), file, rules).items():
            columns.add(meaning)
            if _fits(meaning, found[key]):
                misfits[meaning] = ("", "")
            elif found[key] is not None:
                misfits.setdefault(meaning, (key, type(found[key]).__name__))
    # A few values of another kind are rows without a value; a key with no others has another meaning.
    for meaning, (key, holds) in misfits.items():
        if key and not is_needless(meaning, rules):
            raise wrong_kind(key, meaning, holds, file, kinds)
    require_columns(columns, file, rules, kinds, f" in its first {len(lines):,} lines")
    return columns


def parse_lines(lines: Sequence[bytes], rows: Any, rules: CurationRules, file: InputFile) -> pl.DataFrame:
    """The lines' objects as columns by meaning, with one row for each text of a list."""
    layouts: dict[tuple[str, ...], dict[str, str] | None] = {}
    texts: list[str | None] = []
    problems: list[str | None] = []
    sources: list[int] = []
    values: dict[str, list[Any]] = {meaning: [] for meaning in (*NUMBERS, *STRINGS)}
    readers: dict[str, Callable[[Any], Any]] = dict.fromkeys(NUMBERS, _number) | dict.fromkeys(STRINGS, _string)
    for number, line in enumerate(lines):
        text = decoded(line, rules.text.encoding)
        found = _object(text)
        keys = None if found is None else _layout(found, layouts, rules, file)
        if found is None or keys is None:
            found, keys, has = {}, {}, None
            problem: str | None = NOT_UTF8 if text is None else NO_OBJECT
        else:
            has, problem = found[keys["text"]] if "text" in keys else None, _problem(found, keys)
        given = has or [None] if isinstance(has, list) else [has]
        for one in given:
            read = _string(one)
            texts.append(read)
            problems.append(problem if read is not None or one is None else NOT_A_STRING)
            sources.append(number)
        for meaning, column in values.items():
            column += [readers[meaning](found[keys[meaning]]) if meaning in keys else None] * len(given)
    shown = [None if problem is None else lines[at][:GIVEN] for problem, at in zip(problems, sources, strict=True)]
    return pl.DataFrame(
        {
            "text": texts,
            "problem": problems,
            "given": shown,
            "row": pl.Series(rows[sources], dtype=pl.UInt64),
        }
        | values,
        schema_overrides={"given": pl.Binary}
        | dict.fromkeys(("text", "problem", *STRINGS), pl.String)
        | dict.fromkeys(NUMBERS, pl.Float64),
    )


def _problem(found: dict[str, Any], keys: Mapping[str, str]) -> str | None:
    """What is wrong with an object's other values than the text."""
    misread = [
        meaning for meaning, key in keys.items() if found[key] not in (None, "") and not _fits(meaning, found[key])
    ]
    if "punsafe" in misread or "nsfw" in misread:
        return UNREAD_SAFETY
    return NOT_A_NUMBER if "score" in misread else None


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        found = None if text is None else json.loads(text)
    # Also raised for too many digits or levels.
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _kinds(values: Sequence[Any]) -> str:
    """What a key can mean, see `require_columns`."""
    given = [value for value in values if value is not None]
    return " ".join(
        kind for kind, meaning in (("strings", "text"), ("numbers", "score")) if any(_fits(meaning, v) for v in given)
    )


def _layout(
    found: dict[str, Any],
    layouts: dict[tuple[str, ...], dict[str, str] | None],
    rules: CurationRules,
    file: InputFile,
) -> dict[str, str] | None:
    """Each meaning's key in an object; None where two keys match one name."""
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
    if meaning in NUMBERS:
        return _float(value) is not None
    if meaning == "text" and isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def _string(value: Any) -> str | None:
    """A string without lone surrogates, which JSON can escape and UTF-8 cannot hold."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _number(value: Any) -> float | None:
    number = _float(value)
    return number if number is not None and math.isfinite(number) else None


def _float(value: Any) -> float | None:
    """A number, which may be written as text; infinite where it is too large for a float."""
    # Python reads 1_000 and digits of other alphabets as well.
    if isinstance(value, str) and (not value.isascii() or "_" in value):
        return None
    try:
        return float(value) if isinstance(value, bool | int | float | str) else None
    except OverflowError:
        return math.inf
    except ValueError:
        return None
