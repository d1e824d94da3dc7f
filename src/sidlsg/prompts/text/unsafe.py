"""Unsafe words: a list of words and phrases that a prompt set should not have, and where texts have one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sidlsg.prompts.text.columns import put
from sidlsg.runtime.errors import InputError
from sidlsg.storage.lists import read_list

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
    """Read a list: UTF-8 text, one word or phrase a line; `#` begins a comment, blank lines are ignored.

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
    """Words and phrases made ready for search: whole words, whatever their case, and with s or es behind as well.

    Words may be disguised: by accents, by Cyrillic and Greek letters among Latin ones, and by single spaces, dots,
    dashes or underscores between the letters. (Full-width letters and invisible characters are undone by cleaning.)
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Make the words ready.

        Args:
            words: words and phrases; what stands between the words of a phrase may be a space, a dash or neither.
        """
        self._words: dict[str, str] = {}
        for word in words:
            parts = _parts(word)
            if parts:
                for ending in ("", "s", "es"):
                    self._words.setdefault("".join(parts) + ending, word)
        spellings = sorted({r"[ _-]?".join(map(re.escape, _parts(word))) for word in words} - {""})
        if not spellings:
            raise InputError("no unsafe word has a letter or digit; give words, or switch unsafe.words off")
        # Boundaries of ASCII: Unicode's are far slower, and letters of other scripts set off a word all the same.
        self._pattern = rf"(?:\A|[^a-z0-9])((?:{'|'.join(spellings)})(?:e?s)?)(?:[^a-z0-9]|\z)"

    def found(self, texts: pl.Series) -> pl.Series:
        """The listed word that each text has, the first of several; null where there is none.

        Args:
            texts: cleaned.
        """
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
        """The word that single letters spell, as in "n.u.d.e"; an article may stand before it."""
        for run in _RUN.findall(text):
            joined = run[::2]
            for spelled in (joined, joined.removeprefix("a"), joined.removeprefix("i")):
                # Two letters are initials.
                if len(spelled) > 2 and spelled in self._words:
                    return self._words[spelled]
        return None


def _parts(text: str) -> list[str]:
    """The parts between spaces and dashes, in small letters without accents."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return re.split(r"[ _-]+", "".join(c for c in folded if not unicodedata.category(c).startswith("M")).strip(" _-"))


def _plain_letters(texts: pl.Series) -> pl.Series:
    """Lower-case texts without accents, and with Latin letters for those that look like them within a Latin word."""
    # A word in Cyrillic alone is Russian, say, and not a disguise.
    mixed = texts.str.contains(_MIXED).arg_true()
    texts = put(texts, mixed, texts.gather(mixed).str.replace_many(_LOOK_ALIKES))
    return texts.str.normalize("NFKD").str.replace_all(r"\p{M}+", "")
