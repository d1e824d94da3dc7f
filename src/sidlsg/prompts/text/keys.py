"""Keys of texts: the forms in which two texts count as the same, and digests of them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.text.cleaning import put, same_text_key

FUNCTION_WORDS = frozenset(
    (
        *("a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "my", "your", "our"),
        *("some", "any", "and", "or", "but", "of", "on", "in", "at", "by", "to", "from", "for", "with", "into", "onto"),
        *("over", "under", "near", "as", "is", "are", "was", "were", "be", "been", "being", "am", "while", "which"),
        *("who", "there", "it", "he", "she", "they", "we", "i", "you"),
    )
)
"""English words that say little about an image."""

SIMPLE = (
    r" -~¡-§©¬®°±¶·¿-Þà-ÿĀ-įĴ-ľŁ-ňŊ-ž\x{400}-\x{482}\x{48a}-\x{52f}"
    r"\x{2010}\x{2012}-\x{2015}\x{2020}-\x{2023}\x{2500}-\x{2775}\x{fe0f}"
    r"\x{3001}-\x{3029}\x{3041}-\x{3096}\x{30a1}-\x{30fe}\x{4e00}-\x{9fff}\x{ac00}-\x{d7a3}\x{1f300}-\x{1f64f}"
)
"""Characters whose case-folding in NFKC is their lower case, as ranges of a Rust regular expression."""
_NO_WORD = r"[^\p{L}\p{M}\p{N}]+"
_FUNCTION_WORDS = f" (?:{'|'.join(sorted(FUNCTION_WORDS))}) "


def same_text_keys(texts: pl.Series) -> pl.Series:
    """`same_text_key` of each cleaned text; nulls stay."""
    lower = texts.str.to_lowercase()
    odd = texts.str.contains(f"[^{SIMPLE}]").arg_true()
    return put(lower, odd, _each(same_text_key, texts, odd))


def same_words_keys(texts: pl.Series) -> pl.Series:
    """`same_words_key` of each cleaned text; nulls stay."""
    folded = same_text_keys(texts)
    words = folded.str.replace_all(_NO_WORD, "")
    wordless = (words == "").arg_true()
    return put(words, wordless, folded.gather(wordless))


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


def content_words_keys(texts: pl.Series) -> pl.Series:
    """`content_words_key` of each cleaned text; nulls stay."""
    words = same_text_keys(texts).str.replace_all("'", "", literal=True)
    # A space on either side of every word, so that matches do not overlap.
    words = (" " + words.str.replace_all(_NO_WORD, "  ") + " ").str.replace_all(_FUNCTION_WORDS, "")
    words = words.str.replace_all(r"([^ ]{2}[^ s])s ", "${1} ")
    words = words.str.replace_all("  ", " ", literal=True).str.strip_chars(" ").alias(texts.name)
    # Empty where there are only function words, or no words.
    rest = (words == "").arg_true()
    return put(words, rest, _each(content_words_key, texts, rest))


def digests(keys: pl.Series, seed: int) -> NDArray[np.uint64]:
    r"""The first 16 bytes of the SHA-256 of each key [n], as two big-endian numbers: [n, 2].

    A seed other than 0 is put before each key as `f"{seed}\0"`.
    """
    sha256, encoded = hashlib.sha256, keys.cast(pl.Binary).to_list()
    if seed:
        start = f"{seed}\0".encode()
        encoded = [start + key for key in encoded]
    found = b"".join([sha256(key).digest() for key in encoded])
    return np.frombuffer(found, dtype=">u8").reshape(len(encoded), 4)[:, :2].astype(np.uint64)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word


def _each(key: Callable[[str], str], texts: pl.Series, rows: pl.Series) -> pl.Series:
    return pl.Series([key(text) for text in texts.gather(rows)], dtype=pl.String)
