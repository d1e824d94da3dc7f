"""JSON lines as sources: one object a line, its keys as columns; any other line is a row with a problem."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
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
_SCHEMA = (
    {"text": pl.String, "problem": pl.String, "given": pl.Binary, "row": pl.UInt64}
    | dict.fromkeys(NUMBERS, pl.Float64)
    | dict.fromkeys(STRINGS, pl.String)
)


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

    @lru_cache(maxsize=_LAYOUTS)
    def layout(names: tuple[str, ...]) -> dict[str, str] | None:
        """Each meaning's key in an object; None where two keys match one name."""
        try:
            return match_columns(names, file, rules)
        except InputError:
            return None

    records: list[dict[str, Any]] = []
    for row, line in zip(rows.tolist(), lines, strict=True):
        content = decoded(line, rules.text.encoding)
        found = _object(content)
        keys = None if found is None else layout(tuple(found))
        if found is None or keys is None:
            lacking = NOT_UTF8 if content is None else NO_OBJECT
            records.append({"row": row, "problem": lacking, "given": line[:GIVEN]})
            continue
        values = {meaning: found[key] for meaning, key in keys.items()}
        problem_of_values = _problem(values)
        texts = values.pop("text", None)
        read = {meaning: (_number if meaning in NUMBERS else _string)(value) for meaning, value in values.items()}
        for given in (texts or [None]) if isinstance(texts, list) else [texts]:
            text = _string(given)
            problem = problem_of_values if text is not None or given is None else NOT_A_STRING
            shown = None if problem is None else line[:GIVEN]
            records.append({"row": row, "text": text, "problem": problem, "given": shown} | read)
    return pl.DataFrame(records, schema=_SCHEMA)


def _problem(values: Mapping[str, Any]) -> str | None:
    """What is wrong with an object's other values than the text."""
    misread = [meaning for meaning, value in values.items() if value not in (None, "") and not _fits(meaning, value)]
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
