"""Lists that users write: text files with one entry a line."""

from __future__ import annotations

from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.text_files import read_user_text


def read_list(path: Path, what: str, entry: str) -> list[str]:
    """Read a list: UTF-8 or marked UTF-16 text, one entry a line; blank lines are ignored.

    Args:
        path: of the file.
        what: it is, for messages.
        entry: what one line holds, for messages.

    Returns:
        The lines without blanks around them.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it has no entry.
    """
    allowed = f"UTF-8 text with one {entry} a line"
    if not path.is_file():
        raise InputError(f"no {what} at {path}; give a file of {allowed}")
    try:
        text = read_user_text(path)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}; check its permissions") from error
    entries = [line.strip() for line in text.split("\n") if line.strip()]
    if not entries:
        raise InputError(f"{what} {path} has no {entry}; give {allowed}")
    return entries
