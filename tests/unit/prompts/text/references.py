"""Keys of single texts in plain Python: what the keys of columns are compared with."""

from __future__ import annotations

import unicodedata

from sidlsg.prompts.text.cleaning import clean, same_text_key
from sidlsg.prompts.text.keys import FUNCTION_WORDS


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
