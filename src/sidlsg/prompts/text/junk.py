"""Junk: texts that describe nothing, such as file names, one word over and over, numbers and shouting."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from sidlsg.prompts.rules import JunkRule
from sidlsg.prompts.text.cleaning import put
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import read_list

_SUFFIX = r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|psd|raw|cr2|nef)"
_CAMERA = r"(?:img|dsc[fn]?|dscn|pict?|photo|image|foto|screenshot|screen shot|scan|untitled|unnamed|pxl|mvimg|wp|gopr)"
_FILE_NAME = rf"(?i)\A(?:[^ ]+{_SUFFIX}|{_CAMERA}[-_ ]*\(?\d[-_ .:\d()]*(?:at )?[-_ .:\d()]*(?:{_SUFFIX})?)\z"
"""One word with an image's suffix, or a camera's or phone's prefix and numbers, such as "photo 2019"."""


def junk_reason(texts: pl.Series, rule: JunkRule) -> pl.Series:
    """Why each cleaned text is junk, the first reason that applies; null for a good text.

    In order: "file name"; "symbols", too few letters, digits and spaces; "digits", too many among letters and digits;
    "capitals", many words without a lower-case letter; "repeats", too large a share of one word, whatever its case.
    """
    characters = texts.str.len_chars()
    spaces = texts.str.count_matches(" ", literal=True)
    symbols = texts.str.count_matches(r"[^\p{L}\p{M}\p{N} ]")
    found = {
        "file name": texts.str.contains(_FILE_NAME),
        "symbols": symbols > (1 - rule.minimum_letters) * characters,
        "digits": texts.str.count_matches("[0-9]") > rule.maximum_digits * (characters - symbols - spaces),
        "capitals": _capitals(texts, spaces, rule.capitals_words),
        "repeats": _repeats(texts, rule.maximum_repeats),
    }
    reasons = pl.repeat(None, len(texts), dtype=pl.String, eager=True)
    for reason in reversed(found):  # the first is written last
        rows = found[reason].arg_true()
        reasons = reasons.scatter(rows, reason) if len(rows) else reasons
    return reasons


def _capitals(texts: pl.Series, spaces: pl.Series, words: int) -> pl.Series:
    rows = ((spaces + 1 >= words) & (words > 0) & ~texts.str.contains(r"\p{Ll}")).arg_true()
    some = texts.gather(rows)
    # Scripts without case have no capitals.
    loud = some.str.contains(r"\p{Lu}") & ~some.str.contains(r"\p{Lo}")
    return _marked(len(texts), rows.filter(loud))


def _repeats(texts: pl.Series, maximum: float) -> pl.Series:
    rows = texts.str.contains(r"(?:[^ ]+ ){4}[^ ]").arg_true()
    words = texts.gather(rows).str.to_lowercase().str.split(" ")
    sizes = words.list.len()
    # A bound on the count of one word: all but one of each other distinct word.
    close = (sizes - words.list.n_unique() + 1 > maximum * sizes).arg_true()
    over = [max(map(row.count, set(row))) > maximum * len(row) for row in words.gather(close).to_list()]
    return _marked(len(texts), rows.gather(close).filter(pl.Series(over, dtype=pl.Boolean)))


def _marked(length: int, rows: pl.Series) -> pl.Series:
    """A Boolean column, true at some rows."""
    marks = np.zeros(length, np.bool_)
    marks[rows.to_numpy()] = True
    return pl.Series(marks)


_LOOK_ALIKES = dict(
    zip(
        # Cyrillic, then Greek
        "авеёкмнорстухіјѕԁԛԝɡαβεηικνορτυχω",
        "abeekmhopctyxijsdqwgabenikvoptuxw",
        strict=True,
    )
)
_MIXED = rf"[a-z][\p{{M}}]*[{''.join(_LOOK_ALIKES)}]|[{''.join(_LOOK_ALIKES)}][\p{{M}}]*[a-z]"
_SPACED = r"(?:\A|[^a-z0-9])[a-z][ ._-][a-z][ ._-][a-z](?:[^a-z0-9]|\z)"
_RUN = re.compile(r"(?<![a-z0-9])[a-z](?:[ ._-][a-z])+(?![a-z0-9])")


def read_unsafe_words(path: Path) -> tuple[str, ...]:
    """Read a list: UTF-8 text, one word or phrase a line; `#` starts a comment, blank lines are ignored.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it has no word.
    """
    what, entry = "list of unsafe words", "word or phrase"
    lines = (line.partition("#")[0].strip() for line in read_list(path, what, entry))
    words = tuple(dict.fromkeys(line for line in lines if line))
    if not words:
        raise InputError(f"{what} {path} has comments alone; give one {entry} a line")
    return words


class UnsafeWords:
    """Search for words and phrases as whole words, whatever their case, and with a plural s or es as well.

    The words of a phrase may be separated by a space, a dash or nothing. Disguises are seen through: accents, Cyrillic
    and Greek letters among Latin ones, and single spaces, dots, dashes or underscores between the letters. (Cleaning
    normalises full-width letters and drops invisible characters.)
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words: dict[str, str] = {}
        for word in words:
            parts = _parts(word)
            if parts:
                for ending in ("", "s", "es"):
                    self._words.setdefault("".join(parts) + ending, word)
        spellings = sorted({r"[ _-]?".join(map(re.escape, _parts(word))) for word in words} - {""})
        if not spellings:
            raise InputError("no unsafe word has a letter or digit; give words, or switch unsafe.words off")
        # ASCII boundaries: Unicode's are far slower, and letters of other scripts delimit a word just as well.
        self._pattern = rf"(?:\A|[^a-z0-9])((?:{'|'.join(spellings)})(?:e?s)?)(?:[^a-z0-9]|\z)"

    def found(self, texts: pl.Series) -> pl.Series:
        """The first listed word in each cleaned text, null for none."""
        lower = texts.str.to_lowercase()
        rows = (lower.str.len_bytes() != lower.str.len_chars()).arg_true()
        rows = rows.filter(lower.gather(rows).str.contains(r"[\p{L}\p{M}--[\x00-\x7f]]"))
        lower = put(lower, rows, _plain_letters(lower.gather(rows)))
        hits = lower.str.contains(f"{_SPACED}|{self._pattern}").arg_true()
        some = lower.gather(hits)
        words = [
            self._words["".join(_parts(spelling))] if spelling else self._in_runs(text)
            for text, spelling in zip(some, some.str.extract(self._pattern, 1), strict=True)
        ]
        nothing = pl.repeat(None, len(texts), dtype=pl.String, eager=True)
        return put(nothing, hits, pl.Series(words, dtype=pl.String)).alias(texts.name)

    def _in_runs(self, text: str) -> str | None:
        """The word that single letters spell, as in "n.u.d.e", perhaps after an article."""
        for run in _RUN.findall(text):
            joined = run[::2]
            for spelled in (joined, joined.removeprefix("a"), joined.removeprefix("i")):
                # Two letters are initials.
                if len(spelled) > 2 and spelled in self._words:
                    return self._words[spelled]
        return None


def _parts(text: str) -> list[str]:
    """The parts between spaces and dashes, in lower case without accents."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return re.split(r"[ _-]+", "".join(c for c in folded if not unicodedata.category(c).startswith("M")).strip(" _-"))


def _plain_letters(texts: pl.Series) -> pl.Series:
    """Lower-case texts without accents, and with Latin letters for look-alikes within a Latin word."""
    # A word entirely in Cyrillic is not a disguise.
    mixed = texts.str.contains(_MIXED).arg_true()
    texts = put(texts, mixed, texts.gather(mixed).str.replace_many(_LOOK_ALIKES))
    return texts.str.normalize("NFKD").str.replace_all(r"\p{M}+", "")
