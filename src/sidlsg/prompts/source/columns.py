"""Columns: which column of a file has which meaning, which ones the rules need, and what a column may hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.files import TEXT, InputFile
from sidlsg.runtime.errors import InputError

NUMBERS = ("score", "punsafe", "watermark", "similarity", "width", "height")
"""Meanings that are numbers."""
STRINGS = ("nsfw", "language")
"""Meanings that are strings, besides the text itself."""
_SHOWN = 40
"""Columns that a message lists."""


def wanted(rules: CurationRules) -> tuple[str, ...]:
    """The meanings that some rule reads where a file has them, and the score, which is kept with its text."""
    unsafe = ("punsafe", "nsfw") if rules.unsafe.columns else ()
    language = ("language",) if rules.language.enabled else ()
    return ("text", "score", *unsafe, *language, *(meaning for meaning, _, _ in _image_needs(rules)))


def match_columns(names: Sequence[str], file: InputFile, rules: CurationRules) -> dict[str, str]:
    """The column of each wanted meaning: the first of the meaning's names that a column matches, whatever its case.

    Raises:
        InputError: two columns match one name, and not exactly one of them in its case.
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


def folder_columns(file: InputFile, rules: CurationRules) -> dict[str, str | float | None]:
    """Values of wanted meanings that the file's folders name, for rows without a value of their own."""
    named = {name.casefold(): (name, value) for name, value in file.folder_values.items()}
    values: dict[str, str | float | None] = {}
    for meaning in wanted(rules)[1:]:  # but the text
        fits = [named[name.casefold()] for name in getattr(rules.columns, meaning) if name.casefold() in named]
        if not fits:
            continue
        name, value = fits[0]
        try:
            values[meaning] = value if value is None or meaning not in NUMBERS else float(value)
        except ValueError as error:
            if not is_needless(meaning, rules):
                raise InputError(
                    f"{file.place} is in a folder {name}={value}, which is not a number for columns.{meaning}; rename "
                    f"the folder, or set columns.{meaning} to another name or []"
                ) from error
    return values


def require_columns(
    available: AbstractSet[str],
    file: InputFile,
    rules: CurationRules,
    kinds: Mapping[str, str] = MappingProxyType({}),
    where: str = "",
) -> None:
    """Check that a file has the columns that the rules need.

    `available` are the meanings of its columns, besides those of its folders. For messages, `kinds` is what each of its
    columns can hold (`strings`, `numbers`, both with a space between, or empty), and `where` the part that was checked.
    """
    available = available | folder_columns(file, rules).keys()
    if "text" not in available:
        raise InputError(f"{_lacks('text', file, rules)}{where}; {_choice('text', kinds)}")
    needs = [("score", "score.enabled", "false")] if rules.score.enabled else []
    for meaning, rule, off in needs + _image_needs(rules):
        if meaning in available:
            continue
        if file.format == TEXT:
            raise InputError(
                f"{file.place} is plain text, which has no {meaning}, and {rule} needs one; "
                f"set {rule} to {off}, or give parquet, csv or jsonl"
            )
        raise InputError(
            f"{_lacks(meaning, file, rules)}{where}, which {rule} needs; {_choice(meaning, kinds)}, "
            f"or set {rule} to {off}"
        )


def is_needless(meaning: str, rules: CurationRules) -> bool:
    """Whether no rule reads a column, so that one of the wrong kind is ignored."""
    return meaning == "score" and not rules.score.enabled


def wrong_kind(column: str, meaning: str, holds: str, file: InputFile, kinds: Mapping[str, str]) -> InputError:
    """The error for a column with values of another kind than its meaning has."""
    kind = _kind(meaning)
    others = _fitting(meaning, {name: can for name, can in kinds.items() if name != column})
    advice = [f"set columns.{meaning} to a column of {kind}, out of: {_listed(others)}"] if others else []
    if meaning == "score":
        advice.append("set score.enabled to false to go without")
    elif meaning != "text":
        advice.append(f"set columns.{meaning} to [] to go without")
    return InputError(
        f"column {column!r} of {file.place} holds {holds}, not {kind}; "
        f"{', or '.join(advice) or f'give a file with a column of {kind}'}"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    shown = (name if name.isprintable() else repr(name) for name in names[:_SHOWN])
    return ", ".join(shown) + more if names else "no columns"


def _kind(meaning: str) -> str:
    return "numbers" if meaning in NUMBERS else "strings"


def _fitting(meaning: str, kinds: Mapping[str, str]) -> list[str]:
    return [name for name, can in kinds.items() if _kind(meaning) in can.split()]


def _choice(meaning: str, kinds: Mapping[str, str]) -> str:
    """The columns that could be meant, and what to do."""
    kind, fitting = _kind(meaning), _fitting(meaning, kinds)
    if not fitting:
        return f"it has: {_listed(list(kinds))}; none of them holds {kind}; give a file with one that does"
    return f"of its columns these hold {kind}: {_listed(fitting)}; set columns.{meaning} to one of them"


def _image_needs(rules: CurationRules) -> list[tuple[str, str, str]]:
    """For each cut by the image: a meaning that it needs, its rule, and the rule's value for no cut."""
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
    ((most, count),) = Counter(fits).most_common(1)
    what = f"{count} columns {most!r}" if count > 1 else f"the columns {' and '.join(map(repr, fits))}"
    advice = "rename one of them" if count > 1 else f"set columns.{meaning} to one of them"
    return f"{file.place} has {what}, and columns.{meaning} {name!r} fits each; {advice}"
