"""Text files that users write: UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

from sidlsg.runtime.errors import InputError

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SHOWN = 60
"""Bytes of a line that a message shows."""


def read_user_text(path: Path) -> str:
    """The text of a file, its lines ended by `\\n`, without a byte order mark.

    Raises:
        InputError: it is in another encoding.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "UTF-8-sig")
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
    """`windows-1252` where texts that are not UTF-8 seem to be in it; empty where that is not known.

    Args:
        examples: some of them.
    """
    try:
        text = b"\n".join(examples).decode("windows-1252")
    except UnicodeDecodeError:
        return ""
    foreign = [character for character in text if not character.isascii()]
    # In other alphabets nearly every letter would be one with an accent.
    is_western = 4 * len(foreign) < len(text) and all(c.isprintable() or c == "\xa0" for c in foreign)
    return "windows-1252" if is_western else ""
