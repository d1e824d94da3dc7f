"""Single texts cleaned, and their keys, in plain Python: what is done to columns is compared with it."""

from __future__ import annotations

import html
import re
import unicodedata

from sidlsg.prompts.text.cleaning import EMOJI
from sidlsg.prompts.text.keys import FUNCTION_WORDS, same_text_key

_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_URL = re.compile(r"(?:https?|ftp)://\S*|(?<!\w)www\.\S*", re.IGNORECASE)
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


def same_words_key(text: str) -> str:
    """Key by which any texts have the same words: only the letters, marks and digits, cleaned and case-folded.

    A text without any of them, such as an emoji, keeps its symbols, so that it equals only itself.
    """
    folded = same_text_key(clean(text))
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN") or folded


def content_words_key(text: str) -> str:
    """The words of a cleaned text that describe an image, in order, joined by single spaces.

    Words are runs of letters, marks and digits of the case-folded text without its apostrophes. Function words are
    dropped, unless there are no others. Other words of more than 3 letters lose a final "s" after another letter, so
    "dogs" and "dog's" become "dog" (and "buses" "buse": forms must be equal, not correct). A text without words is its
    own key.
    """
    folded = same_text_key(text)
    spaced = (c if unicodedata.category(c)[0] in "LMN" else " " for c in folded.replace("'", ""))
    words = "".join(spaced).split()
    content = [_singular(word) for word in words if word not in FUNCTION_WORDS]
    return " ".join(content or words) or folded


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word
