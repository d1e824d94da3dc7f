"""Text cleaning: one small pure function a rule, and `clean`, which applies them until nothing changes."""

from __future__ import annotations

import html
import re
import unicodedata

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
