"""Languages: which texts are not in the language to keep, by the table's codes or by detection."""

from __future__ import annotations

import polars as pl
from polars_whichlang import detect_lang

from sidlsg.prompts.rules import LanguageRule
from sidlsg.runtime.errors import InputError

LANGUAGES = {
    "ar": ("ara", "arabic", r"\p{Arabic}"),
    "de": ("deu", "german", r"\p{Latin}"),
    "en": ("eng", "english", r"\p{Latin}"),
    "es": ("spa", "spanish", r"\p{Latin}"),
    "fr": ("fra", "french", r"\p{Latin}"),
    "hi": ("hin", "hindi", r"\p{Devanagari}"),
    "it": ("ita", "italian", r"\p{Latin}"),
    "ja": ("jpn", "japanese", r"\p{Han}\p{Hiragana}\p{Katakana}ー"),
    "ko": ("kor", "korean", r"\p{Hangul}\p{Han}"),
    "nl": ("nld", "dutch", r"\p{Latin}"),
    "pt": ("por", "portuguese", r"\p{Latin}"),
    "ru": ("rus", "russian", r"\p{Cyrillic}"),
    "sv": ("swe", "swedish", r"\p{Latin}"),
    "tr": ("tur", "turkish", r"\p{Latin}"),
    "vi": ("vie", "vietnamese", r"\p{Latin}"),
    "zh": ("cmn", "chinese", r"\p{Han}"),
}
"""Languages of whichlang: ISO 639-1, then ISO 639-3, the English name and the scripts."""

_OTHER_CODES = {"ger": "de", "fre": "fr", "dut": "nl", "zho": "zh", "chi": "zh", "mandarin": "zh"}
_NO_LANGUAGE = ("und", "nan", "xx", "zxx", "mul", "mis")
_CODES = {
    **{name: code for code, (long, english, _) in LANGUAGES.items() for name in (code, long, english)},
    **_OTHER_CODES,
}
_ENGLISH = (
    r"(?i-u:\b(?:the|of|and|with|for|from|by|on|at|is|are|this|that|his|her|their|its|my|your|our|you|how|what|"
    r"when|who|which|it|to|has|have|was|were|not|or|as|an)\b)"
)
"""Words of English and hardly any other language, so not "a", "in" and "me"."""
_FOREIGN = (
    # German, Dutch, Swedish; French, Spanish, Italian, Portuguese; Turkish, Vietnamese. No parts of names, such as
    # "de", "la" or "van", and no words of English, such as "me", "on", "die", "pour" or "sur".
    r"(?:\A|[^\p{L}\p{M}\p{N}])(?:und|der|das|mit|für|ein|eine|einem|einen|einer|ist|nicht|auf|im|zum|zur|aus|bei|oder|"
    r"het|een|met|voor|niet|naar|aan|uit|bij|zijn|och|med|på|av|ett|för|är|från|till|"
    r"les|des|une|un|avec|dans|est|aux|chez|qui|votre|los|las|una|con|para|por|como|su|"
    r"per|nel|nella|della|dello|delle|dei|degli|sulla|sul|uno|gli|com|uma|em|dos|das|não|na|ao|"
    r"ve|bir|için|ile|olan|của|và|một|cho|các|với|trên|trong|là)(?:[^\p{L}\p{M}\p{N}]|\z)|"
    r"(?:[\p{L}--[a-z]][\x00-\x7f]*){6}"
)
"""Marks of another language in Latin letters: one of its common words, or six letters with accents."""
_FIVE_WORDS = r"(?:[^ ]+ ){4}[^ ]"
_TEN_WIDE = r"(?:[\p{Han}\p{Hiragana}\p{Katakana}ー][^\p{L}]*){10}"


def check_language(rule: LanguageRule) -> None:
    """Check that the detector, where it is used, knows the language."""
    if rule.enabled and rule.detect and rule.keep not in LANGUAGES:
        raise InputError(
            f"language.keep is {rule.keep!r}, which the detector does not know; give one of {', '.join(LANGUAGES)}, "
            "or set language.detect to false to use only the table's column"
        )


def other_language(texts: pl.Series, codes: pl.Series, keep: str, detect: bool) -> pl.Series:
    """Whether each text is to be dropped for its language.

    A code that names a language decides. Other texts are dropped if their letters are mostly of a script that the
    language does not use, or if the detector finds another language. The detector sees only texts of at least five
    words (ten characters of Chinese or Japanese, which has no spaces), and for English only those without a common
    English word and with a mark of another language: it errs on short texts, and takes a quarter of titles such as
    "Vintage Ceramic Vase Blue Large Handmade" for Spanish or German.

    Args:
        texts: cleaned.
        codes: the table's. Null, "und" and the like name no language, nor does anything else that is neither a name of
            `LANGUAGES` nor a code of two or three letters.
        keep: ISO 639-1 of the language to keep.
        detect: whether to detect the language of texts without a code; only for a language of `LANGUAGES`.
    """
    known = _known_codes(codes)
    drop = known.is_not_null() & (known != keep).fill_null(False)
    if not detect:
        return drop
    rows = (known.is_null() & texts.is_not_null()).arg_true()
    other = _is_other(texts if len(rows) == len(texts) else texts.gather(rows), keep)
    return drop.scatter(rows.filter(other), True) if other.any() else drop


def _known_codes(codes: pl.Series) -> pl.Series:
    """Each code as ISO 639-1 where `LANGUAGES` has it; other codes of two or three letters as they are; else null."""
    if codes.null_count() == len(codes):
        return pl.Series([None] * len(codes), dtype=pl.String)
    distinct = codes.unique().drop_nulls()
    short = distinct.cast(pl.String).str.strip_chars().str.to_lowercase().str.replace(r"[-_].*\z", "")
    # "pl" is a language, though not one of the detector.
    meant = [_CODES.get(c, c if c.isalpha() and len(c) in (2, 3) and c not in _NO_LANGUAGE else None) for c in short]
    return codes.replace_strict(distinct, pl.Series(meant, dtype=pl.String), default=None)


def _is_other(texts: pl.Series, keep: str) -> pl.Series:
    long_name, _, script = LANGUAGES[keep]
    # Latin letters may be names in any language; only letters outside ASCII count against Latin scripts.
    latin = script == r"\p{Latin}"
    rows = (texts.str.contains(r"[^\x00-\x7f]") if latin else texts.str.contains(r"\p{L}")).arg_true()
    some = texts.gather(rows)
    foreign = some.str.count_matches(rf"[\p{{L}}--[{script}]]") * 2 > some.str.count_matches(r"\p{L}")
    drop = pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
    drop = drop.scatter(rows.filter(foreign), True)
    candidates = texts.str.contains(_FIVE_WORDS) & ~drop
    if keep in ("ja", "zh"):
        candidates |= texts.str.contains(_TEN_WIDE) & ~drop
    doubtful = candidates.arg_true()
    if keep == "en":
        doubtful = doubtful.filter(~texts.gather(doubtful).str.contains(_ENGLISH))
        doubtful = doubtful.filter(texts.gather(doubtful).str.to_lowercase().str.contains(_FOREIGN))
    asked = texts.gather(doubtful)
    other = asked.to_frame("text").select(detect_lang("text")).to_series() != long_name if len(asked) else asked == ""
    return drop.scatter(doubtful.filter(other), True)
