"""Junk: texts that describe nothing, such as file names, one word over and over, numbers and shouting."""

from __future__ import annotations

import polars as pl

from sidlsg.prompts.rules import JunkRule
from sidlsg.prompts.text.columns import marked

_SUFFIX = r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|psd|raw|cr2|nef)"
_CAMERA = r"(?:img|dsc[fn]?|dscn|pict?|photo|image|foto|screenshot|screen shot|scan|untitled|unnamed|pxl|mvimg|wp|gopr)"
_FILE_NAME = rf"(?i)\A(?:[^ ]+{_SUFFIX}|{_CAMERA}[-_ ]*\(?\d[-_ .:\d()]*(?:at )?[-_ .:\d()]*(?:{_SUFFIX})?)\z"
"""One run of characters with an image's suffix, or a camera's or phone's word and numbers; "photo 2019" as well."""
_LETTER = r"\p{L}\p{M}"


def junk_reason(texts: pl.Series, rule: JunkRule) -> pl.Series:
    """The first rule that finds a text to be junk, in the order below; null for a fine one.

    "file name"; "symbols": too few letters, digits and spaces; "digits": too many among letters and digits;
    "capitals": many words without a small letter; "repeats": one word, whatever its case, makes up too much.

    Args:
        texts: cleaned, so that words stand between single spaces.
        rule: the limits.
    """
    if not rule.enabled:
        return pl.repeat(None, len(texts), dtype=pl.String, eager=True)
    others = texts.str.count_matches(rf"[^{_LETTER}\p{{N}} ]")
    found = {
        "file name": texts.str.contains(_FILE_NAME),
        "symbols": others > (1 - rule.minimum_letters) * texts.str.len_chars(),
        "digits": _digits(texts, others, rule.maximum_digits),
        "capitals": _capitals(texts, rule.capitals_words),
        "repeats": _repeats(texts, rule.maximum_repeats),
    }
    reasons = pl.repeat(None, len(texts), dtype=pl.String, eager=True)
    for reason in reversed(found):  # the first one is written last
        rows = found[reason].arg_true()
        reasons = reasons.scatter(rows, reason) if len(rows) else reasons
    return reasons


def _digits(texts: pl.Series, others: pl.Series, maximum: float) -> pl.Series:
    digits = texts.str.count_matches(r"[0-9]")
    # Of a cleaned text at most every other character is a space, so at least half of it, less the symbols, are letters
    # and digits. Only where that does not settle it are they counted.
    fewest = (texts.str.len_chars().cast(pl.Int64) + 1) // 2 - others
    rows = (digits > maximum * fewest).arg_true()
    some = texts.gather(rows)
    over = digits.gather(rows) > maximum * some.str.count_matches(rf"[{_LETTER}\p{{N}}]")
    return marked(len(texts), rows.filter(over))


def _capitals(texts: pl.Series, words: int) -> pl.Series:
    if not words:
        return marked(len(texts), pl.Series([], dtype=pl.UInt32))
    rows = (~texts.str.contains(r"\p{Ll}")).arg_true()
    some = texts.gather(rows)
    # Scripts without case shout in no way.
    loud = some.str.contains(r"\p{Lu}") & (some.str.count_matches(" ", literal=True) + 1 >= words)
    loud &= ~some.str.contains(r"\p{Lo}")
    return marked(len(texts), rows.filter(loud))


def _repeats(texts: pl.Series, maximum: float) -> pl.Series:
    rows = texts.str.contains(r"(?:[^ ]+ ){4}[^ ]").arg_true()
    words = texts.gather(rows).str.to_lowercase().str.split(" ")
    sizes = words.list.len()
    # One word has at most the places that the other distinct ones leave.
    close = (sizes - words.list.n_unique() + 1 > maximum * sizes).arg_true()
    over = [max(map(row.count, set(row))) > maximum * len(row) for row in words.gather(close).to_list()]
    return marked(len(texts), rows.gather(close).filter(pl.Series(over, dtype=pl.Boolean)))
