"""Mistakes that pydantic finds, in words: what was given, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pydantic takes a while
    from pydantic import ValidationError

WORDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "mapping": "a table",
    "dataclass": "a table",
    "model": "a table",
}
"""What is allowed, by the first word of pydantic's type of mistake."""
LIMITS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "literal_error": ("expected", "{}"),
    "string_too_short": ("min_length", "a text of length {} or more"),
    "string_pattern_mismatch": ("pattern", "a text that matches {}"),
    "too_short": ("min_length", "a list of length {} or more"),
    "too_long": ("max_length", "a list of length {} or less"),
}
"""What is allowed, by type of mistake, with the key of its limit."""
LONGEST = 100
"""Maximum characters of a value in a message."""


def first_mistake(error: ValidationError, whole: str) -> str:
    """The first mistake of an error with its dotted place, see `mistake`; `whole` names the value itself."""
    found = error.errors()[0]
    return mistake(dict(found), ".".join(map(str, found["loc"])) or whole)


def mistake(found: Mapping[str, Any], name: str) -> str:
    """What is wrong with the value of that name: `count is 'x'; give a whole number`.

    Args:
        found: an entry of a ValidationError's `errors()`.
        name: of the value; empty for a whole table.
    """
    kind, given = str(found["type"]), found.get("input")
    if kind.startswith("missing"):
        return f"{name} is missing; give it"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name} is unknown; remove it"
    if kind == "json_invalid":
        return f"{name} is not JSON: {found['ctx']['error']}"
    own = kind in ("value_error", "assertion_error")  # raised by a check of this package
    reason = str(found["ctx"]["error"]) if own else f"give {wanted(found)}"
    # A table is not repeated: it may hold a password.
    if isinstance(given, dict):
        return f"{name} is a table; {reason}" if not own else f"{name}: {reason}" if name else reason
    text = repr(given)
    return f"{name} is {text if len(text) <= LONGEST else f'{text[:LONGEST]}…'}; {reason}"


def wanted(found: Mapping[str, Any]) -> str:
    """What is allowed instead of a value: `a whole number`."""
    kind = str(found["type"])
    if kind not in LIMITS:
        return WORDS.get(kind.partition("_")[0], str(found["msg"]).removeprefix("Input should be "))
    key, words = LIMITS[kind]
    limit = found["ctx"][key]
    return words.format(f"{limit:g}" if isinstance(limit, float) else limit)
