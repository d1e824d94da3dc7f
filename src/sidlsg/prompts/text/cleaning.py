"""Text cleaning: `clean` for one text, which defines the rules, and `clean_all` for columns."""

from __future__ import annotations

import html
import re
import unicodedata

import numpy as np
import polars as pl

_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_URL = re.compile(r"(?:https?|ftp)://\S*|(?<!\w)www\.\S*", re.IGNORECASE)
_SYMBOL = r"©®\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_STYLED = rf"[{_SYMBOL}][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
EMOJI = (
    "(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # a flag of a region, spelled in tags
    rf"|{_STYLED}(?:\u200d{_STYLED})*"  # a sequence joined into one symbol
    r"|[0-9#*]\ufe0f?\u20e3)"  # a keycap
)
"""An emoji with its invisible characters, as one group; a regular expression of Python and of Rust."""
_EMOJI = re.compile(EMOJI)
_SELECTORS = "\ufe0e\ufe0f"
"""Variation selectors, meaningless except behind an emoji."""
_QUOTES = str.maketrans(dict.fromkeys("‘’‚‛′‵´`", "'") | dict.fromkeys("“”„‟″‶«»", '"'))


def clean(text: str) -> str:
    """Apply all rules until the text no longer changes, so that cleaning twice is cleaning once.

    One pass: resolve HTML entities, make quotes plain, NFKC, drop tags and URLs, drop controls, squeeze whitespace, and
    take off a pair of quotes around the whole text. One is not enough: `&amp;lt;b&amp;gt;` hides a tag below two layers
    of entities. The loop ends because after the first NFKC each rule that changes the text leaves fewer `&`, or a
    shorter text, or plainer characters.
    """
    before: str | None = None
    while text != before:
        before = text
        text = unicodedata.normalize("NFKC", html.unescape(text).translate(_QUOTES))
        text = _URL.sub(" ", _TAG.sub(" ", text))
        text = " ".join(_visible(text).split())
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
            text = text[1:-1]
    return text


def _visible(text: str) -> str:
    """Control characters as spaces; no invisible, private or surrogate characters, except inside emoji.

    Unassigned characters stay: which ones they are depends on Python's Unicode version.
    """
    if text.isprintable() and not any(selector in text for selector in _SELECTORS):
        return text

    def visible(part: str) -> str:
        kinds = ((character, unicodedata.category(character)) for character in part if character not in _SELECTORS)
        return "".join(" " if kind == "Cc" else char for char, kind in kinds if kind not in ("Cf", "Co", "Cs"))

    # The expression's one group makes every second part an emoji.
    return "".join(part if index % 2 else visible(part) for index, part in enumerate(_EMOJI.split(text)))


def same_text_key(text: str) -> str:
    """Key by which cleaned texts are exact duplicates: case-folded, then NFKC."""
    return unicodedata.normalize("NFKC", text.casefold())


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
_ENTITIES = {
    f"&{name};": html.unescape(f"&{name};")
    for name in (
        *("amp", "quot", "lt", "gt", "nbsp", "apos", "#39", "#039", "#x27", "#34", "#38", "#038", "#160", "#8211"),
        *("#8216", "#8217", "#8220", "#8221", "#8230", "ndash", "mdash", "lsquo", "rsquo", "ldquo", "rdquo", "hellip"),
        *("eacute", "egrave", "agrave", "uuml", "ouml", "auml", "copy", "reg", "trade", "deg", "rsaquo", "raquo"),
    )
}
_ENTITY = r"&[#a-zA-Z]"
_COMMON_ENTITY = "|".join(_ENTITIES)
# The rules of `clean` as Rust regular expressions.
_SINGLE = "[‘’‚‛′‵´`]"
_DOUBLE = "[“”„‟″‶«»]"
_TAG_COLUMN = r"<[a-zA-Z/!][^<>]*>"
# Rust knows no look-behind, and other whitespace and word characters than Python.
_NO_SPACE = r"[^\s\x1c-\x1f]*"
# Without regard to case, \p{L} would take in U+0345, a mark.
_URL_COLUMN = rf"(?i:https?|ftp)://{_NO_SPACE}|(\A|[^\p{{L}}\p{{N}}_])(?i:www)\.{_NO_SPACE}"
_INVISIBLE = r"[\p{Cf}\p{Co}\x{fe0e}\x{fe0f}]"
# An emoji is found before the characters in it are, and stays.
_EMOJI_OR_INVISIBLE = f"{EMOJI}|{_INVISIBLE}"
_WRAPPED = r"\A(?:'([^']*)'|\x22([^\x22]*)\x22)\z"


def clean_all(texts: pl.Series) -> pl.Series:
    """`clean` of each text; nulls stay."""
    dirty = texts.str.contains(_DIRTY).fill_null(False).arg_true()
    return texts if dirty.is_empty() else put(texts, dirty, _clean_dirty(texts.gather(dirty)))


def _clean_dirty(texts: pl.Series) -> pl.Series:
    done = texts
    rows = pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    while len(texts):
        rare = texts.str.contains(_ENTITY)
        if rare.any():
            rare &= texts.str.count_matches(_ENTITY) != texts.str.count_matches(_COMMON_ENTITY)
        # `clean` is slow, and its result is final.
        if rare.any():
            slow = [clean(text) for text in texts.filter(rare)]
            done = put(done, rows.filter(rare), pl.Series(slow, dtype=pl.String))
            rows, texts = rows.filter(~rare), texts.filter(~rare)
        after = _one_pass(texts)
        changed = after != texts
        rows, texts = rows.filter(changed), after.filter(changed)
        done = put(done, rows, texts)
        dirty = texts.str.contains(_DIRTY)
        rows, texts = rows.filter(dirty), texts.filter(dirty)
    return done


def _one_pass(texts: pl.Series) -> pl.Series:
    """One pass of `clean`, for texts whose entities are all common ones."""
    texts = texts.str.replace_many(_ENTITIES) if texts.str.contains(_ENTITY).any() else texts
    texts = texts.str.replace_all(_SINGLE, "'").str.replace_all(_DOUBLE, '"')
    other = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    texts = put(texts, other, texts.gather(other).str.normalize("NFKC"))
    texts = texts.str.replace_all(_TAG_COLUMN, " ").str.replace_all(_URL_COLUMN, "${1} ")
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
