from dataclasses import asdict, fields, replace

import pytest

from sidlsg.prompts.rules import (
    BalanceRule,
    Columns,
    CurationRules,
    DuplicatesRule,
    HeldOutRule,
    ImageRule,
    JunkRule,
    LanguageRule,
    LengthRule,
    OrderRule,
    ScoreRule,
    TextRule,
    UnsafeRule,
)
from sidlsg.runtime.errors import InputError

OTHER = {
    "columns": Columns(text=("caption",)),
    "text": TextRule(maximum_bytes=100),
    "score": ScoreRule(minimum=5.0),
    "unsafe": UnsafeRule(words=False),
    "image": ImageRule(enabled=True),
    "language": LanguageRule(keep="de"),
    "junk": JunkRule(capitals_words=9),
    "length": LengthRule(minimum_words=2),
    "held_out": HeldOutRule(similarity=0.8),
    "duplicates": DuplicatesRule(similarity=0.9),
    "balance": BalanceRule(maximum_per_bin=7),
    "order": OrderRule(seed=1),
}


def test_the_defaults_are_the_papers_cut_with_its_two_higher_ones_inside():
    rules = CurationRules()
    assert rules.score == ScoreRule(enabled=True, minimum=6.0, cuts=(6.25, 6.5))
    assert rules.columns.text[0] == "TEXT"
    assert rules.duplicates.similarity == 0.8


@pytest.mark.parametrize("section", [section.name for section in fields(CurationRules)])
def test_every_section_counts_in_the_digest(section):
    assert CurationRules(**{section: OTHER[section]}).digest != CurationRules().digest


def test_equal_rules_have_equal_digests_however_their_numbers_are_written():
    one = CurationRules(score=ScoreRule(minimum=6, cuts=(7, 8)))
    assert one.digest == CurationRules(score=ScoreRule(minimum=6.0, cuts=(7.0, 8.0))).digest


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (Columns, {"text": ()}, "columns.text names no column"),
        (Columns, {"score": ("",)}, "columns.score has an empty name"),
        (TextRule, {"maximum_bytes": 0}, "text.maximum_bytes is 0; give 1 or more"),
        (ScoreRule, {"minimum": float("nan")}, "score.minimum is nan"),
        (ScoreRule, {"cuts": (6.5, 6.25)}, "give rising numbers above score.minimum 6.0"),
        (ScoreRule, {"cuts": (6.0,)}, "give rising numbers above"),
        (ScoreRule, {"cuts": (float("nan"),)}, "give rising numbers above"),
        (ScoreRule, {"cuts": (float("inf"),)}, "all of them finite"),
        (JunkRule, {"capitals_words": 10**20}, "capitals_words is 100000000000000000000; give at most 2147483647"),
        (UnsafeRule, {"tags": ("nsfw,unsure",)}, "no tag has a comma; give several as a list"),
        (UnsafeRule, {"maximum_punsafe": 1.5}, "unsafe.maximum_punsafe is 1.5; give a number from 0 to 1"),
        (ImageRule, {"minimum_side": -1}, "image.minimum_side is -1"),
        (ImageRule, {"maximum_aspect": 0.5}, "image.maximum_aspect is 0.5; give 1 or more, or 0"),
        (LanguageRule, {"keep": "english"}, "language.keep is 'english'; give a code of two"),
        (JunkRule, {"maximum_digits": -0.1}, "junk.maximum_digits is -0.1"),
        (LengthRule, {"minimum_words": 0}, "length.minimum_words is 0"),
        (LengthRule, {"minimum_words": 9, "maximum_words": 8}, "8, less than minimum_words 9"),
        (LengthRule, {"minimum_tokens": 80}, "75, less than minimum_tokens 80"),
        (HeldOutRule, {"similarity": 0.3}, "held_out.similarity is 0.3; give a number from 0.5 to 1, or 0"),
        (DuplicatesRule, {"similarity": 1.1}, "duplicates.similarity is 1.1"),
        (BalanceRule, {"bin_tokens": 0}, "balance.bin_tokens is 0"),
        (OrderRule, {"seed": -1}, "order.seed is -1"),
    ],
)
def test_invalid_values_are_refused(section, values, message):
    with pytest.raises(InputError, match=message):
        section(**values)


def test_length_without_a_limit_of_tokens():
    assert LengthRule(maximum_tokens=0, minimum_tokens=80).maximum_tokens == 0


def test_a_changed_section_leaves_the_others():
    rules = replace(CurationRules(), score=ScoreRule(minimum=5.0))
    assert asdict(rules) | {"score": None} == asdict(CurationRules()) | {"score": None}


@pytest.mark.parametrize("encoding", ["windows-1252", "cp1251", "shift_jis", "gb18030", "big5"])
def test_an_encoding_that_extends_ascii_is_taken(encoding):
    assert TextRule(encoding=encoding).encoding == encoding


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "cp037", "hex", "unicode_escape", "windows-1", "a\0b", " "])
def test_an_encoding_that_changes_ascii_or_is_unknown_is_refused(encoding):
    with pytest.raises(InputError, match=r"text.encoding is .*; give an encoding that extends ASCII"):
        TextRule(encoding=encoding)
