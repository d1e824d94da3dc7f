"""JSON and TOML that somebody else may have written: parsed within bounds, and every failure is a ValueError."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.text_files import read_user_text

MOST_BYTES = 1 << 26
"""Size of a file that is read as one document."""
MOST_NESTED = 100
"""Depth of lists and objects within each other. Whatever walks or prints a value recurses by its depth."""
MOST_TOML = 1 << 20
"""Characters of a TOML document: files of settings."""
MOST_DOTS = 200
"""Dots of a line of TOML: the memory for a dotted key grows with the square of its parts."""
MOST_DIGITS = 300
"""Digits of a whole number: more do not fit a float."""


def parse_json(text: str | bytes, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON.

    Args:
        text: bytes are UTF-8.
        pairs_hook: makes an object's value from its pairs; a dictionary by default.

    Raises:
        ValueError: it is not JSON, or passes a bound of this module.
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(text, object_pairs_hook=pairs_hook, parse_int=_whole)
    except RecursionError as error:
        raise _too_deep() from error
    if text.count("[") + text.count("{") > MOST_NESTED:
        _check_depth(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is not TOML, or passes a bound of this module.
    """
    if len(text) > MOST_TOML:
        raise ValueError(f"it has {len(text):,} characters; allowed: {MOST_TOML:,}")
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise ValueError(f"line {number} has {line.count('.'):,} dots; allowed: {MOST_DOTS}")
    try:
        value = tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    _check_depth(value)
    return value


def read_text(path: Path, advice: str) -> str:
    """Read a file of text as a whole; see `read_user_text` for its encoding.

    Args:
        path: the file.
        advice: what to do where it cannot be read.

    Raises:
        InputError: it cannot be read, is in another encoding, or has more than `MOST_BYTES`.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"{path} has {size:,} bytes; allowed: {MOST_BYTES:,}; {advice}")
        return read_user_text(path)
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read: {reason}; {advice}") from error


def read_json(path: Path, advice: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it cannot be read, or is not JSON within the bounds of this module.
    """
    text = read_text(path, advice)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); {advice}") from error


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: as for `read_json`, or it holds something else.
    """
    value = read_json(path, advice)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; {advice}")
    return value


def read_toml(path: Path, advice: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: it cannot be read, or is not TOML within the bounds of this module.
    """
    text = read_text(path, advice)
    try:
        return parse_toml(text)
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}; {advice}") from error


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits; allowed: {MOST_DIGITS}")
    return int(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_NESTED + 1):
        if any(isinstance(each, int) and each.bit_length() > 1023 for each in level):  # TOML has hexadecimal ones
            raise ValueError(f"a number has more than {MOST_DIGITS} digits")
        holders = [each for each in level if isinstance(each, dict | list)]
        if not holders:
            return
        level = [inner for each in holders for inner in (each.values() if isinstance(each, dict) else each)]
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"lists or tables are nested more than {MOST_NESTED} deep")
