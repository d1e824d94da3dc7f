"""Secrets of servers, from a file or a variable: other users of a machine can read its command lines."""

from __future__ import annotations

import os
from pathlib import Path

from sidlsg.runtime.errors import InputError

SHORTEST = 16
"""Characters of a secret: a shorter one could be guessed."""


def read_secrets(file: Path | None, variable: str, what: str) -> list[str]:
    """The secrets in a file, one a line, or without a file the one in the environment.

    Args:
        file: of the option --secret-file.
        variable: the environment variable's name.
        what: the secrets' name in messages, such as `webhook secret`.

    Raises:
        InputError: there is none, or a short one, or the file cannot be read.
    """
    if file is None:
        found, source = [os.environ.get(variable, "").strip()], f"the variable {variable}"
    else:
        try:
            found, source = file.read_text(encoding="utf-8").split(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InputError(
                f"the secret file {file} cannot be read: {reason}; give one with a secret a line"
            ) from error
    if not found or not all(found):
        raise InputError(f"there is no {what} in {source}; give --secret-file, or set {variable}")
    if any(len(secret) < SHORTEST for secret in found):
        raise InputError(f"a {what} in {source} has fewer than {SHORTEST} characters; `openssl rand -hex 32` makes one")
    return found
