"""Somebody else's words, made to mean nothing but themselves where they are shown."""

from __future__ import annotations

import html
import re

from sidlsg.runtime.pipeline_run import printable


def plain_line(text: object, most: int) -> str:
    """One line of at most so many characters that reads as the text did: no control characters."""
    line = " ".join(printable(str(text)).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def plain_markdown(text: object) -> str:
    """One line of Markdown that reads as the text did: no markup, no HTML, no control characters."""
    line = html.escape(" ".join(printable(str(text)).split()), quote=False)
    return re.sub(r"([\\`*_\[\]#|~])", r"\\\1", line)
