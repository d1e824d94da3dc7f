"""Keys of texts: the forms in which two texts count as the same, and digests of them."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.text.cleaning import put

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


def same_text_key(text: str) -> str:
    """Key by which cleaned texts are exact duplicates: case-folded, then NFKC."""
    return unicodedata.normalize("NFKC", text.casefold())


def same_text_keys(texts: pl.Series) -> pl.Series:
    """`same_text_key` of each cleaned text; nulls stay."""
    lower = texts.str.to_lowercase()
    odd = texts.str.contains(f"[^{SIMPLE}]").arg_true()
    return put(lower, odd, pl.Series(map(same_text_key, texts.gather(odd)), dtype=pl.String))


def same_words_keys(texts: pl.Series) -> pl.Series:
    """Keys by which cleaned texts have the same words: only the letters, marks and digits, case-folded; nulls stay.

    A text without any of them, such as an emoji, keeps its symbols, so that it equals only itself.
    """
    folded = same_text_keys(texts)
    words = folded.str.replace_all(_NO_WORD, "")
    wordless = (words == "").arg_true()
    return put(words, wordless, folded.gather(wordless))


def content_words_keys(texts: pl.Series) -> pl.Series:
    """The words of each cleaned text that describe an image, in order, joined by single spaces; nulls stay.

    Words are runs of letters, marks and digits of the case-folded text without its apostrophes. Function words are
    dropped, unless there are no others. Other words of more than 3 letters lose a final "s" after another letter, so
    "dogs" and "dog's" become "dog" (and "buses" "buse": forms must be equal, not correct). A text without words is its
    own key.
    """
    folded = same_text_keys(texts)
    # A space on either side of every word, so that matches do not overlap.
    words = " " + folded.str.replace_all("'", "", literal=True).str.replace_all(_NO_WORD, "  ") + " "
    content = words.str.replace_all(_FUNCTION_WORDS, "").str.replace_all(r"([^ ]{2}[^ s])s ", "${1} ")
    for fallback in (words, folded):
        content = content.str.replace_all("  ", " ", literal=True).str.strip_chars(" ")
        empty = (content == "").arg_true()
        content = put(content, empty, fallback.gather(empty))
    return content.alias(texts.name)


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
