"""Cleaning of a batch: what `clean` does to one text, done to a column by the same rules in the same order.

Most texts are clean already, which one regular expression tells. The others go through a pass of the rules until
nothing changes. Texts with entities that are not among the common ones go to `clean` itself.
"""

from __future__ import annotations

import html

import polars as pl

from sidlsg.prompts.text.cleaning import EMOJI, clean
from sidlsg.prompts.text.columns import put

STABLE = (
    r"!-_a-~"  # ASCII but for the space and the backtick
    r"¡-§©¬®°±¶·¿-ıĴ-ľŁ-ňŊ-žƀ-ƃ"  # Latin letters with accents, and signs
    r"\x{391}-\x{3a1}\x{3a3}-\x{3cf}\x{400}-\x{482}\x{48a}-\x{52f}\x{5d0}-\x{5ea}"  # Greek, Cyrillic, Hebrew
    r"\x{2010}\x{2012}-\x{2015}\x{2020}-\x{2023}\x{20a0}-\x{20a7}\x{20a9}-\x{20bf}"  # dashes, bullets, currencies
    r"\x{2190}-\x{21ff}\x{2500}-\x{2775}"  # arrows, symbols, dingbats
    r"\x{3001}-\x{3029}\x{3041}-\x{3096}\x{30a1}-\x{30fe}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}"  # kana and ideographs
    r"\x{ac00}-\x{d7a3}"  # Hangul
    r"\x{1f300}-\x{1f64f}\x{1f680}-\x{1f6d7}\x{1f90c}-\x{1f9ff}"  # emoji
)
"""Characters, as ranges of a Rust regular expression, that no rule changes alone, whatever stands around them.

NFKC keeps them, and composes none of them with what stands before it. Not all of these: the commonest in captions.
"""
_DIRTY = rf"[^{STABLE} ]|  |\A['\x22 ]|[ ]\z|&[#a-zA-Z]|<[a-zA-Z/!]|://|[wW][wW][wW]\."
"""What a clean text has not, but for a quote at its beginning that no other one ends."""
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
# The rules of `clean`, in the words of Rust's regular expressions.
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
    """`clean` of each text; nulls stay.

    Args:
        texts: strings.
    """
    dirty = texts.str.contains(_DIRTY).fill_null(False).arg_true()
    return texts if dirty.is_empty() else put(texts, dirty, _clean_dirty(texts.gather(dirty)))


def _clean_dirty(texts: pl.Series) -> pl.Series:
    done = texts
    rows = pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    while len(texts):
        rare = texts.str.contains(_ENTITY)
        if rare.any():
            rare &= texts.str.count_matches(_ENTITY) != texts.str.count_matches(_COMMON_ENTITY)
        # The reference cleans to the end at once, and what it returns stays as it is.
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
    """Each rule of `RULES` once, for texts whose entities are all common ones."""
    texts = texts.str.replace_many(_ENTITIES) if texts.str.contains(_ENTITY).any() else texts
    texts = texts.str.replace_all(_SINGLE, "'").str.replace_all(_DOUBLE, '"')
    other = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    texts = put(texts, other, texts.gather(other).str.normalize("NFKC"))
    texts = texts.str.replace_all(_TAG, " ").str.replace_all(_URL, "${1} ")
    texts = texts.str.replace_all(r"\p{Cc}", " ")
    hidden = texts.str.contains(_INVISIBLE).arg_true()
    texts = put(texts, hidden, texts.gather(hidden).str.replace_all(_EMOJI_OR_INVISIBLE, "${1}"))
    # A single plain space is no match, as matches cost more than looks.
    texts = texts.str.replace_all(r" \p{Z}+|[\p{Z}--\x20]\p{Z}*", " ").str.strip_chars(" ")
    return texts.str.replace(_WRAPPED, "${1}${2}")
