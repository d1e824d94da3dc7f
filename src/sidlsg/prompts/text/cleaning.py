"""Text cleaning: one small pure function a rule, and `clean`, which applies them until nothing changes."""

from __future__ import annotations

import html
import re
import unicodedata

import polars as pl

from sidlsg.prompts.text.columns import put

_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_URL = re.compile(r"(?:https?|ftp)://\S*|(?<!\w)www\.\S*", re.IGNORECASE)
_PICTURE = r"©®\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_STYLED = rf"[{_PICTURE}][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
EMOJI = (
    "(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # a flag of a region, spelled in tags
    rf"|{_STYLED}(?:\u200d{_STYLED})*"  # one picture of several that are joined
    r"|[0-9#*]\ufe0f?\u20e3)"  # a key
)
"""An emoji with the invisible characters that are part of it, as one group; an expression of Python's and of Rust's."""
_EMOJI = re.compile(EMOJI)
_SELECTORS = "\ufe0e\ufe0f"
"""Ask for a character as text or as emoji; behind anything else they are left over from a picture that is gone."""
_QUOTES = str.maketrans(dict.fromkeys("‘’‚‛′‵´`", "'") | dict.fromkeys("“”„‟″‶«»", '"'))


def unescape_entities(text: str) -> str:
    """Turn HTML entities into the characters that they stand for."""
    return html.unescape(text)


def straighten_quotes(text: str) -> str:
    """Turn typographic quotes, primes, guillemets and loose accents into ASCII quotes."""
    return text.translate(_QUOTES)


def normalise_unicode(text: str) -> str:
    """Bring the text to NFKC: one form for full-width letters, ligatures and composed accents."""
    return unicodedata.normalize("NFKC", text)


def drop_tags(text: str) -> str:
    """Replace HTML tags and comments by a space; a `<` that opens no tag stays.

    A comment around tags goes in the pass after theirs.
    """
    return _TAG.sub(" ", text)


def drop_urls(text: str) -> str:
    """Replace web addresses by a space."""
    return _URL.sub(" ", text)


def drop_controls(text: str) -> str:
    """Replace control characters by a space; drop invisible, private and surrogate ones, but for those inside emoji.

    Unassigned characters stay: which ones they are depends on the Unicode version of the Python that runs.
    """
    if text.isprintable() and not any(selector in text for selector in _SELECTORS):
        return text

    def visible(part: str) -> str:
        kinds = ((character, unicodedata.category(character)) for character in part if character not in _SELECTORS)
        return "".join(" " if kind == "Cc" else char for char, kind in kinds if kind not in ("Cf", "Co", "Cs"))

    # The expression's one group makes every second part an emoji.
    return "".join(part if index % 2 else visible(part) for index, part in enumerate(_EMOJI.split(text)))


def squeeze_whitespace(text: str) -> str:
    """Make every run of whitespace one space, and none at the ends."""
    return " ".join(text.split())


def unwrap_quotes(text: str) -> str:
    """Take off a pair of quotes around the whole text; quotes of a part, as in `"a" or "b"`, stay."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


RULES = (
    unescape_entities,
    straighten_quotes,
    normalise_unicode,
    drop_tags,
    drop_urls,
    drop_controls,
    squeeze_whitespace,
    unwrap_quotes,
)
"""The cleaning rules in the order in which they are applied."""


def clean(text: str) -> str:
    """Apply all rules until the text no longer changes, so that cleaning twice is cleaning once.

    One pass is not enough: `&amp;lt;b&amp;gt;` hides a tag below two layers of entities. The loop ends because after
    the first NFKC each rule that changes the text leaves fewer `&`, or a shorter text, or plainer characters.
    """
    while True:
        before = text
        for rule in RULES:
            text = rule(text)
        if text == before:
            return text


def same_text_key(text: str) -> str:
    """The form in which two cleaned texts are exact duplicates: case-folded, and NFKC again after that."""
    return unicodedata.normalize("NFKC", text.casefold())


def same_words_key(text: str) -> str:
    """The form in which any two texts have the same words: only letters, marks and digits, cleaned and case-folded.

    A text without any of them (an emoji, say) keeps its symbols, so that it is equal to itself only.
    """
    folded = same_text_key(clean(text))
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN") or folded


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
    texts = texts.str.replace_all(_TAG_COLUMN, " ").str.replace_all(_URL_COLUMN, "${1} ")
    texts = texts.str.replace_all(r"\p{Cc}", " ")
    hidden = texts.str.contains(_INVISIBLE).arg_true()
    texts = put(texts, hidden, texts.gather(hidden).str.replace_all(_EMOJI_OR_INVISIBLE, "${1}"))
    # A single plain space is no match, as matches cost more than looks.
    texts = texts.str.replace_all(r" \p{Z}+|[\p{Z}--\x20]\p{Z}*", " ").str.strip_chars(" ")
    return texts.str.replace(_WRAPPED, "${1}${2}")
