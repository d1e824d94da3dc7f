"""Numbers and texts for readers: significant digits, fitting units, no markup."""

from __future__ import annotations

import html
import math
import re

from sidlsg.runtime.provenance import printable

DIGEST_SHOWN = 16
"""Characters of a digest in running text."""


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    return _minus(f"{value:,.{decimals}f}")


def plain(value: object) -> str:
    """A recipe's value as text: floats without trailing zeros, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _minus(f"{value:,}")
    if isinstance(value, float):
        return _minus(f"{value:g}")
    if isinstance(value, dict):
        return ", ".join(f"{key} = {plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds as `3.4 s`, `5 min 12 s` or `2 h 4 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def counted(count: int, one: str, many: str) -> str:
    """`1 image`, `2,016 images`."""
    return f"{count:,} {one if count == 1 else many}"


def _minus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") else text


def plain_line(text: object, most: int) -> str:
    """A text as one line of at most so many characters, without control characters."""
    line = " ".join(printable(str(text)).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def plain_markdown(text: object) -> str:
    """A text as one line of Markdown, its markup escaped, without control characters."""
    line = html.escape(" ".join(printable(str(text)).split()), quote=False)
    return re.sub(r"([\\`*_\[\]#|~])", r"\\\1", line)
