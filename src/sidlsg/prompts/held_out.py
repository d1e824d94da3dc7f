"""The held-out list: evaluation captions that no prompt set may contain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidlsg.storage.files import read_list, sha256_bytes


def read_held_out(path: Path, what: str = "held-out list") -> list[str]:
    """Read a list of captions: UTF-8 text, one caption a line, blank lines ignored; `what` names it in messages.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it has no caption.
    """
    return read_list(path, what, "caption")


def held_out_digest(held_out: Sequence[str]) -> str:
    """SHA-256 of the list as a text file with one caption a line."""
    return sha256_bytes("".join(f"{caption}\n" for caption in held_out).encode())
