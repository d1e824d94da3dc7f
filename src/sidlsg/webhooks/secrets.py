"""The secrets that webhooks are signed with: never on a command line, which every user of a machine can read."""

from __future__ import annotations

import os
from pathlib import Path

from sidlsg.runtime.errors import InputError

VARIABLE = "SIDLSG_WEBHOOK_SECRET"
SHORTEST = 16
"""Characters: a shorter one could be guessed from one signed delivery."""


def webhook_secrets(file: Path | None) -> list[str]:
    """The secrets of a file, one a line, else that of the environment; several while one replaces another.

    Raises:
        InputError: there is none, or a short one, or the file cannot be read.
    """
    if file is None:
        found, source = [os.environ.get(VARIABLE, "").strip()], f"the variable {VARIABLE}"
    else:
        try:
            found, source = file.read_text(encoding="utf-8").split(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InputError(
                f"the secret file {file} cannot be read: {reason}; give one with a secret a line"
            ) from error
    if not found or not all(found):
        raise InputError(f"there is no webhook secret in {source}; give --secret-file, or set {VARIABLE}")
    if any(len(secret) < SHORTEST for secret in found):
        raise InputError(
            f"a webhook secret in {source} has fewer than {SHORTEST} characters; `openssl rand -hex 32` makes one"
        )
    return found
