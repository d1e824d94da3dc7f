"""Which names a registered model may have."""

from __future__ import annotations

import re

from sidlsg.runtime.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_name(name: str) -> None:
    """Check a model's name; it is a part of addresses and aliases.

    Raises:
        InputError: it is not allowed.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"model name {name!r} is not allowed; use letters, digits, '.', '_' and '-'")
