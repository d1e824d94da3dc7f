"""Columns: which of a file's columns mean what, which ones the rules need, and what a column may hold."""

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


def folder_columns(file: InputFile, rules: CurationRules) -> dict[str, str | float | None]:
    """The values that the folders above a file say of wanted meanings: they count where a row has none of its own.

    Raises:
        InputError: a number is wanted, and a folder says something else.
    """
    named = {name.casefold(): (name, value) for name, value in file.folder_values.items()}
    said: dict[str, str | float | None] = {}
    for meaning in wanted(rules):
        fits = [named[name.casefold()] for name in getattr(rules.columns, meaning) if name.casefold() in named]
        if not fits or meaning == "text":
            continue
        name, value = fits[0]
        try:
            said[meaning] = value if value is None or meaning not in NUMBERS else float(value)
        except ValueError as error:
            if not is_needless(meaning, rules):
                raise InputError(
                    f"{file.place} is in a folder {name}={value}, which is no number for columns.{meaning}; rename the "
                    f"folder, or set columns.{meaning} to another name or []"
                ) from error
    return said


def require_columns(
    available: AbstractSet[str],
    file: InputFile,
    rules: CurationRules,
    kinds: Mapping[str, str] = MappingProxyType({}),
    where: str = "",
) -> None:
    """Check that a file has what the rules cannot do without.

    Args:
        available: the meanings that it has columns for; those that its folders say count as well.
        file: for messages.
        rules: that are switched on.
        kinds: what each of its columns can mean: `strings`, `numbers`, both with a space between, or neither.
        where: it was looked at, for messages; by default as a whole.

    Raises:
        InputError: it lacks one.
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
    """Whether a column only goes along with its text: one that holds something else is then none."""
    return meaning == "score" and not rules.score.enabled


def wrong_kind(column: str, meaning: str, holds: str, file: InputFile, kinds: Mapping[str, str]) -> InputError:
    """The error for a column that holds something else than its meaning does."""
    kind = _kind(meaning)
    others = _fitting(meaning, {name: can for name, can in kinds.items() if name != column})
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


def _kind(meaning: str) -> str:
    return "numbers" if meaning in NUMBERS else "strings"


def _fitting(meaning: str, kinds: Mapping[str, str]) -> list[str]:
    return [name for name, can in kinds.items() if _kind(meaning) in can.split()]


def _choice(meaning: str, kinds: Mapping[str, str]) -> str:
    """The columns that could be meant, and what to do."""
    kind, fitting = _kind(meaning), _fitting(meaning, kinds)
    if not fitting:
        return f"it has: {listed(list(kinds))}; none of them holds {kind}; give a file with one that does"
    return f"of its columns these hold {kind}: {listed(fitting)}; set columns.{meaning} to one of them"


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
