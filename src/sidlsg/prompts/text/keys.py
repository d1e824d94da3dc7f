"""Keys of texts: the forms in which two texts count as the same, and digests of them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.text.cleaning import same_text_key
from sidlsg.prompts.text.columns import PREFIX, join_lines, prefixes, put, split_lines

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
_UPPER = bytes(range(65, 91))
_LOWERED = bytes.maketrans(_UPPER, _UPPER.lower())
_ALPHANUMERIC = b"0123456789abcdefghijklmnopqrstuvwxyz"
_NO_WORD = bytes(c for c in range(128) if chr(c) != "\n" and not chr(c).isalnum())
_WORDS_APART = bytes(c if c in _ALPHANUMERIC + b"\n" or c > 127 else 32 for c in _LOWERED)


def same_text_keys(texts: pl.Series) -> pl.Series:
    """`same_text_key` of each cleaned text; nulls stay."""
    lower = texts.str.to_lowercase()
    odd = texts.str.contains(f"[^{SIMPLE}]").arg_true()
    return put(lower, odd, _each(same_text_key, texts, odd))


def same_words_keys(texts: pl.Series) -> pl.Series:
    """`same_words_key` of each cleaned text; nulls stay."""
    plain, other = _plain_rows(texts)
    keys = split_lines(join_lines(texts.gather(plain)).translate(_LOWERED, _NO_WORD), len(plain))
    words = same_text_keys(texts.gather(other)).str.replace_all(r"[^\p{L}\p{M}\p{N}]+", "")
    both = put(put(texts, plain, keys), other, words)
    wordless = (both == "").arg_true()
    return put(both, wordless, same_text_keys(texts.gather(wordless)))


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
    plain, other = _plain_rows(texts)
    keys = _content_words(join_lines(texts.gather(plain)).translate(_WORDS_APART, b"'"), len(plain))
    spaced = same_text_keys(texts.gather(other)).str.replace_all("'", "", literal=True)
    spaced = spaced.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    both = put(put(texts, plain, keys), other, _content_words(join_lines(spaced), len(other)))
    # Empty where there are only function words, or no words.
    rest = (both == "").arg_true()
    return put(both, rest, _each(content_words_key, texts, rest))


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


def _function_words() -> tuple[np.uint64, NDArray[np.uint64]]:
    """A factor that hashes the function words, as numbers, into a table without collisions; and the table."""
    words = np.array([int.from_bytes(word.encode(), "little") for word in FUNCTION_WORDS], np.uint64)
    for factor in range(0x9E3779B97F4A7C15, 2**64, 2):
        places = words * np.uint64(factor) >> _SHIFT
        if len(np.unique(places)) == len(words):
            break
    table = np.zeros(4096, np.uint64)
    table[places] = words
    return np.uint64(factor), table


_SHIFT = np.uint64(64 - 12)
_FACTOR, _TABLE = _function_words()


def _content_words(lines: bytes, count: int) -> pl.Series:
    """The content words of each line of case-folded words; empty where there are none."""
    padded = np.frombuffer(b"\n" + lines + b"\n" * (PREFIX + 1), np.uint8)
    in_word = padded > 32
    edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    numbers = prefixes(padded, starts, ends)
    content = (_TABLE[numbers * _FACTOR >> _SHIFT] != numbers) | (ends - starts > PREFIX)
    starts, ends = starts[content], ends[content]
    # Keep each of them, and the space after it.
    change = np.zeros(len(padded), np.int8)
    change[starts] = 1
    change[ends + 1] -= 1
    keep = np.cumsum(change, dtype=np.int8).view(np.bool_)
    keep |= padded == ord("\n")
    keep[0] = keep[len(lines) + 1 :] = False
    sizes = ends - starts
    if (padded > 127).any():
        characters = np.cumsum((padded & 0xC0) != 0x80, dtype=np.int32)
        sizes = characters[ends - 1] - characters[starts - 1]
    plural = (sizes > 3) & (padded[ends - 1] == ord("s")) & (padded[ends - 2] != ord("s"))
    keep[ends[plural] - 1] = False
    return split_lines((padded * keep).tobytes().translate(None, b"\0"), count).str.strip_chars_end(" ")


def _plain_rows(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The rows of single-line ASCII texts, and of the others that are not null."""
    other = texts.str.contains(r"[^\x00-\x7f]|\n|\x00")
    return (~other).arg_true(), other.arg_true()


def _each(key: Callable[[str], str], texts: pl.Series, rows: pl.Series) -> pl.Series:
    return pl.Series([key(text) for text in texts.gather(rows)], dtype=pl.String)
