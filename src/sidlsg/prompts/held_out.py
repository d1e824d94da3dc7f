"""The held-out list: evaluation captions that no prompt set may contain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.storage import sha256_bytes


def read_held_out(path: Path, what: str = "held-out list") -> list[str]:
    """Read a list of captions: UTF-8 text, one caption a line; blank lines are ignored.

    Args:
        path: of the file.
        what: it is, for messages.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it has no caption.
    """
    if not path.is_file():
        raise InputError(f"no {what} at {path}; give a UTF-8 text file with one caption a line")
    try:
        # Some editors put a byte order mark first, which must not become a part of the first caption.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} {path} is not UTF-8 (byte {error.start}); save it as UTF-8 text with one caption a line"
        ) from error
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}; check its permissions") from error
    captions = [line.strip() for line in text.split("\n") if line.strip()]
    if not captions:
        raise InputError(f"{what} {path} has no caption; give a text file with one caption a line")
    return captions


def held_out_digest(held_out: Sequence[str]) -> str:
    """SHA-256 of the list as a text file with one caption a line."""
    return sha256_bytes("".join(f"{caption}\n" for caption in held_out).encode())
