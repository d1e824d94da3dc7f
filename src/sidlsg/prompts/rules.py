"""The rules of curation: which rows of a prompt table become prompts, one frozen section a step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from dataclasses import asdict, dataclass

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes

_MOST = 2**31 - 1


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}; give {least} or more")
    if value > _MOST:
        raise InputError(f"{name} is {value}; give at most {_MOST}")


def _extends_ascii(name: str, encoding: str) -> None:
    # So that lines, commas and braces can be found before it is applied.
    plain = bytes(range(128)).replace(b"\\", rb"\u005c")
    with contextlib.suppress(LookupError, ValueError):
        if plain.decode(encoding) == plain.decode("ascii"):
            return
    raise InputError(
        f"{name} is {encoding!r}; give an encoding that extends ASCII by a name of Python's, such as windows-1252, "
        "windows-1251, shift_jis or gb18030 (UTF-16 is found by its byte order mark)"
    )


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; give a number from 0 to 1")


def _similarity(name: str, value: float) -> None:
    # Below a half, candidates would be nearly all pairs.
    if value and not 0.5 <= value <= 1:
        raise InputError(f"{name} is {value}; give a number from 0.5 to 1, or 0 to switch it off")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a table's columns by meaning, whatever their case; the first name that a table has is used.

    Only `text` is required, and the columns that other rules need.
    """

    text: tuple[str, ...] = ("TEXT", "caption", "prompt")
    """Captions; strings."""
    score: tuple[str, ...] = ("AESTHETIC_SCORE", "aesthetic", "aesthetic_score", "score")
    """Aesthetic scores; numbers."""
    punsafe: tuple[str, ...] = ("punsafe",)
    """Probabilities that the image is unsafe; numbers from 0 to 1."""
    nsfw: tuple[str, ...] = ("NSFW",)
    """The same in words, such as UNLIKELY, UNSURE and NSFW; strings."""
    watermark: tuple[str, ...] = ("pwatermark",)
    """Probabilities of a watermark; numbers from 0 to 1."""
    similarity: tuple[str, ...] = ("similarity",)
    """CLIP similarity of image and text; numbers."""
    language: tuple[str, ...] = ("LANGUAGE",)
    """Codes of the texts' languages, such as en; strings."""
    width: tuple[str, ...] = ("WIDTH",)
    """Image widths in pixels; numbers."""
    height: tuple[str, ...] = ("HEIGHT",)
    """Image heights in pixels; numbers."""

    def __post_init__(self) -> None:
        if not self.text:
            raise InputError("columns.text names no column; give the name of the column with the texts")
        for meaning, names in asdict(self).items():
            if not all(names):
                raise InputError(f"columns.{meaning} has an empty name; give names of columns")


@dataclass(frozen=True, kw_only=True)
class TextRule:
    """Keeps rows with a text: not null, valid UTF-8, and not huge. Always on."""

    maximum_bytes: int = 8192
    """Longest raw text, in bytes of UTF-8: longer ones are documents, and would slow every later step."""
    encoding: str = ""
    """Encoding of texts that are not UTF-8, such as windows-1252; empty to drop them."""

    def __post_init__(self) -> None:
        _at_least("text.maximum_bytes", self.maximum_bytes, 1)
        if self.encoding:
            _extends_ascii("text.encoding", self.encoding)


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """The cut by aesthetic score. The defaults are the paper's Aesthetics 6+, with its subsets 6.25+ and 6.5+."""

    enabled: bool = True
    """Off for sources without scores, such as plain text."""
    minimum: float = 6.0
    """Lowest score that is kept; rows without a score are dropped."""
    cuts: tuple[float, ...] = (6.25, 6.5)
    """Higher minima, each for an extra prompt set: the prompts with at least this score, in the same order."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.minimum):
            raise InputError(f"score.minimum is {self.minimum}; give a finite number, such as 6.0")
        rising = list(self.cuts) == sorted(set(self.cuts)) and all(cut > self.minimum for cut in self.cuts)
        if not rising or not all(map(math.isfinite, self.cuts)):
            raise InputError(
                f"score.cuts are {list(self.cuts)}; give rising numbers above score.minimum {self.minimum}, "
                "all of them finite"
            )


@dataclass(frozen=True, kw_only=True)
class UnsafeRule:
    """Drops unsafe rows by the table's columns, if it has them, and by words of the text."""

    columns: bool = True
    """Use the columns `punsafe` and `nsfw`. A table without them passes."""
    maximum_punsafe: float = 0.5
    """Highest probability that is kept."""
    tags: tuple[str, ...] = ("NSFW",)
    """Words in the column `nsfw` that drop a row, whatever their case."""
    words: bool = True
    """Use the list of words."""
    words_file: str = ""
    """Your own list, UTF-8 text with one word or phrase a line; empty for the bundled one."""

    def __post_init__(self) -> None:
        _share("unsafe.maximum_punsafe", self.maximum_punsafe)
        if any("," in tag for tag in self.tags):
            raise InputError(
                f"unsafe.tags are {list(self.tags)}, and no tag has a comma; give several as a list, such as "
                '["NSFW", "UNSURE"]'
            )


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """Cuts by the table's columns about the image. Off by default: only the text goes into a prompt set."""

    enabled: bool = False
    """Apply the cuts below, each of which needs its columns."""
    maximum_watermark: float = 0.8
    """Highest probability of a watermark that is kept; 1 for no cut."""
    minimum_similarity: float = 0.0
    """Lowest CLIP similarity that is kept; 0 for no cut."""
    minimum_side: int = 0
    """Shortest side that is kept, in pixels; 0 for no cut."""
    maximum_aspect: float = 0.0
    """Largest ratio of the longer to the shorter side; 0 for no cut."""

    def __post_init__(self) -> None:
        _share("image.maximum_watermark", self.maximum_watermark)
        _share("image.minimum_similarity", self.minimum_similarity)
        _at_least("image.minimum_side", self.minimum_side, 0)
        if self.maximum_aspect and not self.maximum_aspect >= 1:
            raise InputError(f"image.maximum_aspect is {self.maximum_aspect}; give 1 or more, or 0 for no cut")


@dataclass(frozen=True, kw_only=True)
class LanguageRule:
    """Keeps one language: by the table's column where it names one, else by detection in the text."""

    enabled: bool = True
    """Drop other languages."""
    keep: str = "en"
    """The language, as a code of two letters."""
    detect: bool = True
    """Detect the language of texts without a code. Short ones pass, since no detector is reliable there."""

    def __post_init__(self) -> None:
        if len(self.keep) != 2 or not self.keep.isascii() or not self.keep.islower():
            raise InputError(f"language.keep is {self.keep!r}; give a code of two lower-case letters, such as en")


@dataclass(frozen=True, kw_only=True)
class JunkRule:
    """Drops texts that describe nothing: file names, one word repeated, capitals, numbers."""

    enabled: bool = True
    """Apply the limits below."""
    maximum_repeats: float = 0.5
    """Largest share of one word in a text of five words or more."""
    maximum_digits: float = 0.4
    """Largest share of digits among letters and digits."""
    capitals_words: int = 6
    """Fewest words of a text all in capitals that is dropped; 0 for none."""
    minimum_letters: float = 0.5
    """Smallest share of letters, digits and spaces among all characters."""

    def __post_init__(self) -> None:
        _share("junk.maximum_repeats", self.maximum_repeats)
        _share("junk.maximum_digits", self.maximum_digits)
        _share("junk.minimum_letters", self.minimum_letters)
        _at_least("junk.capitals_words", self.capitals_words, 0)


@dataclass(frozen=True, kw_only=True)
class LengthRule:
    """Keeps texts by their length."""

    minimum_words: int = 3
    """Fewest words: shorter texts are mostly labels."""
    maximum_words: int = 60
    """Most words."""
    minimum_tokens: int = 1
    """Fewest tokens of CLIP, without start and end."""
    maximum_tokens: int = 75
    """Most tokens of CLIP, which ignores what follows the first 75; 0 for no limit."""

    def __post_init__(self) -> None:
        _at_least("length.minimum_words", self.minimum_words, 1)
        _at_least("length.minimum_tokens", self.minimum_tokens, 1)
        if self.maximum_words < self.minimum_words:
            raise InputError(
                f"length.maximum_words is {self.maximum_words}, less than minimum_words {self.minimum_words}: "
                "no text could pass; raise the one or lower the other"
            )
        if self.maximum_tokens and self.maximum_tokens < self.minimum_tokens:
            raise InputError(
                f"length.maximum_tokens is {self.maximum_tokens}, less than minimum_tokens {self.minimum_tokens}: "
                "no text could pass; raise the one, lower the other, or give 0 for no limit"
            )


@dataclass(frozen=True, kw_only=True)
class HeldOutRule:
    """Removes evaluation captions in any spelling."""

    words: bool = True
    """Drop a text with the same words, whatever their case, spacing and punctuation."""
    content_words: bool = True
    """Drop a text with the same words except for articles, prepositions and plural endings (English)."""
    similarity: float = 0.75
    """Drop a text with at least this Jaccard similarity to a caption; 0 to switch that off."""

    def __post_init__(self) -> None:
        _similarity("held_out.similarity", self.similarity)


@dataclass(frozen=True, kw_only=True)
class DuplicatesRule:
    """Keeps one of equal texts, and one of a group of similar ones."""

    exact: bool = True
    """Keep one of the texts that differ only in case."""
    similarity: float = 0.8
    """Keep the first of the texts that are joined by Jaccard similarities of at least this; 0 to switch that off."""

    def __post_init__(self) -> None:
        _similarity("duplicates.similarity", self.similarity)


@dataclass(frozen=True, kw_only=True)
class BalanceRule:
    """Evens out the lengths: limits each bin of token counts to its first prompts in the set's order."""

    maximum_per_bin: int = 0
    """Most prompts of a bin; 0 to keep all."""
    bin_tokens: int = 8
    """Width of a bin."""

    def __post_init__(self) -> None:
        _at_least("balance.maximum_per_bin", self.maximum_per_bin, 0)
        _at_least("balance.bin_tokens", self.bin_tokens, 1)


@dataclass(frozen=True, kw_only=True)
class OrderRule:
    """The set's order: by a digest of each text, so that it depends on nothing else."""

    seed: int = 0
    """Another seed gives another order, and may keep other texts of similar ones."""

    def __post_init__(self) -> None:
        _at_least("order.seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class CurationRules:
    """All rules. The defaults fit LAION-Aesthetics tables and give the paper's Aesthetics 6+."""

    columns: Columns = Columns()
    text: TextRule = TextRule()
    score: ScoreRule = ScoreRule()
    unsafe: UnsafeRule = UnsafeRule()
    image: ImageRule = ImageRule()
    language: LanguageRule = LanguageRule()
    junk: JunkRule = JunkRule()
    length: LengthRule = LengthRule()
    held_out: HeldOutRule = HeldOutRule()
    duplicates: DuplicatesRule = DuplicatesRule()
    balance: BalanceRule = BalanceRule()
    order: OrderRule = OrderRule()

    @property
    def digest(self) -> str:
        """SHA-256 of the values."""
        return sha256_bytes(json.dumps(_plain(self), sort_keys=True).encode())


def _plain(value: object) -> object:
    """Values by name, numbers of float fields as floats: 6 and 6.0 are equal but differ as JSON."""
    if isinstance(value, tuple):
        return [float(item) if isinstance(item, int) else item for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    return {
        item.name: float(got) if item.type == "float" else _plain(got)
        for item in dataclasses.fields(value)
        for got in [getattr(value, item.name)]
    }
