"""Columns: which of a file's columns mean what, which ones the rules need, and what a column may hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.inputs import TEXT, InputFile

NUMBERS = ("score", "punsafe", "watermark", "similarity", "width", "height")
"""Meanings that are numbers."""
STRINGS = ("nsfw", "language")
"""Meanings that are strings, beside the text itself."""
_SHOWN = 40
"""Columns that a message names."""


def wanted(rules: CurationRules) -> tuple[str, ...]:
    """The meanings that some rule reads where a file has them, and the score, which goes along with its text."""
    unsafe = ("punsafe", "nsfw") if rules.unsafe.columns else ()
    language = ("language",) if rules.language.enabled else ()
    return ("text", "score", *unsafe, *language, *(meaning for meaning, _, _ in _image_needs(rules)))


def match_columns(names: Sequence[str], file: InputFile, rules: CurationRules) -> dict[str, str]:
    """Which column each wanted meaning has, of those that the file has.

    Of a meaning's names the first that some column fits, whatever its case, wins.

    Args:
        names: of the file's columns.
        file: for messages.
        rules: with the names.

    Raises:
        InputError: two columns fit one name, and neither or both of them exactly.
    """
    found = {}
    for meaning in wanted(rules):
        for name in getattr(rules.columns, meaning):
            fits = [column for column in names if column.casefold() == name.casefold()]
            exact = [column for column in fits if column == name]
            if len(fits) > 1 and len(exact) != 1:
                raise InputError(_ambiguous(fits, name, meaning, file))
            if fits:
                found[meaning] = exact[0] if exact else fits[0]
                break
    return found


def require_columns(
    available: AbstractSet[str], file: InputFile, rules: CurationRules, names: Sequence[str] = (), where: str = ""
) -> None:
    """Check that a file has what the rules cannot do without.

    Args:
        available: the meanings that it has.
        file: for messages.
        rules: that are switched on.
        names: of the columns that it has, for messages.
        where: it was looked at, for messages; by default as a whole.

    Raises:
        InputError: it lacks one.
    """
    if "text" not in available:
        raise InputError(
            f"{_lacks('text', file, rules)}{where}; it has: {listed(names)}; set columns.text to one of them"
        )
    needs = [("score", "score.enabled", "false")] if rules.score.enabled else []
    for meaning, rule, off in needs + _image_needs(rules):
        if meaning in available:
            continue
        if file.format == TEXT:
            raise InputError(
                f"{file.place} is plain text, which has no {meaning}, and {rule} needs one; "
                f"set {rule} to {off}, or give parquet or jsonl"
            )
        raise InputError(
            f"{_lacks(meaning, file, rules)}{where}, which {rule} needs; it has: {listed(names)}; "
            f"set columns.{meaning} to one of them, or {rule} to {off}"
        )


def is_needless(meaning: str, rules: CurationRules) -> bool:
    """Whether a column only goes along with its text: one that holds something else is then none."""
    return meaning == "score" and not rules.score.enabled


def wrong_kind(column: str, meaning: str, holds: str, file: InputFile, names: Sequence[str]) -> InputError:
    """The error for a column that holds something else than its meaning does."""
    kind = "numbers" if meaning in NUMBERS else "strings"
    others = [name for name in names if name != column]
    advice = [f"set columns.{meaning} to a column of {kind}, out of: {listed(others)}"] if others else []
    if meaning == "score":
        advice.append("set score.enabled to false to go without")
    elif meaning != "text":
        advice.append(f"set columns.{meaning} to [] to go without")
    return InputError(
        f"column {column!r} of {file.place} holds {holds}, not {kind}; "
        f"{', or '.join(advice) or f'give a file with a column of {kind}'}"
    )


def listed(names: Sequence[str]) -> str:
    """The names of columns for a message, not all of a great many."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    shown = (name if name.isprintable() else repr(name) for name in names[:_SHOWN])
    return ", ".join(shown) + more if names else "no columns"


def _image_needs(rules: CurationRules) -> list[tuple[str, str, str]]:
    """For each cut by the image: a meaning that it needs, its rule, and the value of the rule without a cut."""
    image = rules.image
    if not image.enabled:
        return []
    needs = []
    if image.maximum_watermark < 1:
        needs.append(("watermark", "image.maximum_watermark", "1"))
    if image.minimum_similarity > 0:
        needs.append(("similarity", "image.minimum_similarity", "0"))
    rule = "image.minimum_side" if image.minimum_side > 0 else "image.maximum_aspect"
    if image.minimum_side > 0 or image.maximum_aspect > 0:
        needs += [("width", rule, "0"), ("height", rule, "0")]
    return needs


def _lacks(meaning: str, file: InputFile, rules: CurationRules) -> str:
    names = getattr(rules.columns, meaning)
    which = " or ".join(repr(name) for name in names) if names else f"for columns.{meaning}, which names none"
    return f"{file.place} has no column {which}"


def _ambiguous(fits: Sequence[str], name: str, meaning: str, file: InputFile) -> str:
    (most, count), *_ = Counter(fits).most_common(1)
    what = f"{count} columns {most!r}" if count > 1 else f"the columns {' and '.join(repr(one) for one in fits)}"
    advice = "name its columns apart" if count > 1 else f"set columns.{meaning} to one of them"
    return f"{file.place} has {what}, and columns.{meaning} {name!r} fits each; {advice}"
