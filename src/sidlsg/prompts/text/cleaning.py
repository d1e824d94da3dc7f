"""Text cleaning: columns of texts without HTML, addresses, invisible characters and typographic variants."""

from __future__ import annotations

import html

import numpy as np
import polars as pl

_SYMBOL = r"©®\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_STYLED = rf"[{_SYMBOL}][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
EMOJI = (
    "(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # a flag of a region, spelled in tags
    rf"|{_STYLED}(?:\u200d{_STYLED})*"  # a sequence joined into one symbol
    r"|[0-9#*]\ufe0f?\u20e3)"  # a keycap
)
"""An emoji with its invisible characters, as one group; a regular expression of Rust and of Python."""
STABLE = (
    r"!-_a-~"  # ASCII except the space and the backtick
    r"¡-§©¬®°±¶·¿-ıĴ-ľŁ-ňŊ-žƀ-ƃ"  # Latin letters with accents, and signs
    r"\x{391}-\x{3a1}\x{3a3}-\x{3cf}\x{400}-\x{482}\x{48a}-\x{52f}\x{5d0}-\x{5ea}"  # Greek, Cyrillic, Hebrew
    r"\x{2010}\x{2012}-\x{2015}\x{2020}-\x{2023}\x{20a0}-\x{20a7}\x{20a9}-\x{20bf}"  # dashes, bullets, currencies
    r"\x{2190}-\x{21ff}\x{2500}-\x{2775}"  # arrows, symbols, dingbats
    r"\x{3001}-\x{3029}\x{3041}-\x{3096}\x{30a1}-\x{30fe}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}"  # kana and ideographs
    r"\x{ac00}-\x{d7a3}"  # Hangul
    r"\x{1f300}-\x{1f64f}\x{1f680}-\x{1f6d7}\x{1f90c}-\x{1f9ff}"  # emoji
)
"""The commonest characters that no rule changes in any context, as ranges of a Rust regular expression.

NFKC keeps them, and composes none of them with a character before it.
"""
_DIRTY = rf"[^{STABLE} ]|  |\A['\x22 ]|[ ]\z|&[#a-zA-Z]|<[a-zA-Z/!]|://|[wW][wW][wW]\."
"""Signs that cleaning may change a text."""
_ENTITY = r"&[#a-zA-Z]"
_SINGLE = "[‘’‚‛′‵´`]"
_DOUBLE = "[“”„‟″‶«»]"
_TAG = r"<[a-zA-Z/!][^<>]*>"
# Rust knows no look-behind, and other whitespace and word characters than Python.
_NO_SPACE = r"[^\s\x1c-\x1f]*"
# Without regard to case, \p{L} would take in U+0345, a mark.
_URL = rf"(?i:https?|ftp)://{_NO_SPACE}|(\A|[^\p{{L}}\p{{N}}_])(?i:www)\.{_NO_SPACE}"
_INVISIBLE = r"[\p{Cf}\p{Co}\x{fe0e}\x{fe0f}]"
# An emoji is found before the characters in it are, and stays.
_EMOJI_OR_INVISIBLE = f"{EMOJI}|{_INVISIBLE}"
_WRAPPED = r"\A(?:'([^']*)'|\x22([^\x22]*)\x22)\z"


def clean_all(texts: pl.Series) -> pl.Series:
    """Apply all rules to each text until it no longer changes, so that cleaning twice is cleaning once; nulls stay.

    One pass: resolve HTML entities, make quotes plain, NFKC, drop tags and URLs, drop controls, squeeze whitespace, and
    take off a pair of quotes around the whole text. One is not enough: `&amp;lt;b&amp;gt;` hides a tag below two layers
    of entities. The loop ends because after the first NFKC each rule that changes the text leaves fewer `&`, or a
    shorter text, or plainer characters.

    Unassigned characters stay: which ones they are depends on the version of Unicode.
    """
    rows = texts.str.contains(_DIRTY).fill_null(False).arg_true()
    while len(rows):
        before = texts.gather(rows)
        after = _one_pass(before)
        texts = put(texts, rows, after)
        rows = rows.filter((after != before) & after.str.contains(_DIRTY))
    return texts


def _one_pass(texts: pl.Series) -> pl.Series:
    entities = texts.str.contains(_ENTITY).arg_true()
    texts = put(texts, entities, pl.Series(map(html.unescape, texts.gather(entities)), dtype=pl.String))
    texts = texts.str.replace_all(_SINGLE, "'").str.replace_all(_DOUBLE, '"')
    other = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    texts = put(texts, other, texts.gather(other).str.normalize("NFKC"))
    texts = texts.str.replace_all(_TAG, " ").str.replace_all(_URL, "${1} ")
    texts = texts.str.replace_all(r"\p{Cc}", " ")
    hidden = texts.str.contains(_INVISIBLE).arg_true()
    texts = put(texts, hidden, texts.gather(hidden).str.replace_all(_EMOJI_OR_INVISIBLE, "${1}"))
    # Single spaces do not match, since replacing costs more than searching.
    texts = texts.str.replace_all(r" \p{Z}+|[\p{Z}--\x20]\p{Z}*", " ").str.strip_chars(" ")
    return texts.str.replace(_WRAPPED, "${1}${2}")


def put(texts: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    """Replace the values of some rows, given by their indices."""
    if rows.is_empty():
        return texts
    order = np.arange(len(texts), dtype=np.uint32)
    order[rows.to_numpy()] = np.arange(len(texts), len(texts) + len(rows), dtype=np.uint32)
    return pl.concat([texts, values.alias(texts.name)]).gather(order)
