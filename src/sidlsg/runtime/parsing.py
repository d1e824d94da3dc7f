"""Text, JSON and TOML files and addresses of users, and logs of trainings, parsed within bounds."""

from __future__ import annotations

import codecs
import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sidlsg.runtime.errors import InputError

MOST_BYTES = 1 << 26
"""Bytes of a file that is read as one document."""
MOST_NESTED = 100
"""Depth of nested lists and objects: code that walks or prints a value recurses by its depth."""
MOST_TOML = 1 << 20
"""Characters of a TOML document."""
MOST_DOTS = 200
"""Dots in a line of TOML: a dotted key takes memory by the square of its parts."""
MOST_DIGITS = 300
"""Digits of a whole number: more do not fit a float."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins with the one of UTF-16
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SHOWN = 60
"""Bytes of a line that a message shows."""


def parse_json(text: str | bytes, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON; raises ValueError for any other text, and for a value that exceeds the limits of this module.

    `pairs_hook` makes an object's value from its pairs; a dictionary by default.
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(text, object_pairs_hook=pairs_hook, parse_int=_whole)
    except RecursionError as error:
        raise _too_deep() from error
    if text.count("[") + text.count("{") > MOST_NESTED:
        _check_depth(value)
    return value


def read_user_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; its lines end with `\\n`.

    Raises:
        InputError: it has another encoding.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "UTF-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "UTF-8-sig":
            raise InputError(f"{path} begins as {encoding} and is not; save it as UTF-8") from error
        line = data[data.rfind(b"\n", 0, error.start) + 1 :].partition(b"\n")[0].strip()[:_SHOWN]
        likely = likely_encoding([line])
        reading = f"; in {likely} that line is {line.decode(likely)!r}" if likely else ""
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start}) in the line {str(line)[1:]}{reading}; save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def likely_encoding(examples: Sequence[bytes]) -> str:
    """`windows-1252` if some texts that are not UTF-8 seem to be in it; otherwise empty."""
    try:
        text = b"\n".join(examples).decode("windows-1252")
    except UnicodeDecodeError:
        return ""
    foreign = [character for character in text if not character.isascii()]
    # Text in another alphabet would consist of accented letters.
    is_western = 4 * len(foreign) < len(text) and all(c.isprintable() or c == "\xa0" for c in foreign)
    return "windows-1252" if is_western else ""


def read_text(path: Path, advice: str) -> str:
    """Read a text file as a whole; `advice` is the message's end, as in the functions below.

    Raises:
        InputError: it cannot be read, has another encoding, or has more than `MOST_BYTES`.
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
    """Read a JSON file; raises InputError for any other."""
    text = read_text(path, advice)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); {advice}") from error


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON file with an object; raises InputError for any other."""
    value = read_json(path, advice)
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object; {advice}")
    return value


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a training's log, JSON objects with a whole number `images_seen`; raises InputError for any other."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or type(row.get("images_seen")) is not int:
            raise InputError(
                f"line {number} of {path} is {line[:_SHOWN]!r}; a training log has a JSON object with a whole number "
                "images_seen on each line: run the distil stage again"
            )
        rows.append(row)
    return rows


def http_address(text: str) -> SplitResult | None:
    """The parts of an http(s) address with a host, whose `netloc` has an @ if it holds a login; None for other text."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        return None
    return parts if usable and text.isprintable() and " " not in text else None


def read_toml(path: Path, advice: str) -> dict[str, Any]:
    """Read a TOML file; raises InputError for any other."""
    return parse_toml(read_text(path, advice), str(path), advice)


def parse_toml(text: str, source: str, advice: str) -> dict[str, Any]:
    """Parse a user's TOML within the limits of this module; raises InputError, with its source, for any other text."""
    try:
        if len(text) > MOST_TOML:
            raise ValueError(f"it has {len(text):,} characters; allowed: {MOST_TOML:,}")
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > MOST_DOTS:
                raise ValueError(f"line {number} has {line.count('.'):,} dots; allowed: {MOST_DOTS}")
        value = tomllib.loads(text)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        reason = _too_deep() if isinstance(error, RecursionError) else error
        raise InputError(f"{source} is not TOML: {reason}; {advice}") from error
    return value


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
