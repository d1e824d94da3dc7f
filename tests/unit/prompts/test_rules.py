import dataclasses
import math

import pytest

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules


def test_defaults_fit_laion_aesthetics():
    rules = CurationRules()
    assert (rules.text_column, rules.score_column, rules.minimum_score) == ("TEXT", "AESTHETIC_SCORE", 6.0)


CHANGES = {
    "text_column": "caption",
    "score_column": "score",
    "minimum_score": 6.5,
    "minimum_words": 4,
    "maximum_words": 59,
}


def test_the_list_of_changes_names_every_field():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(CurationRules)}


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_the_digest(field):
    assert CurationRules(**{field: CHANGES[field]}).digest != CurationRules().digest


def test_equal_rules_have_equal_digests():
    assert CurationRules(minimum_score=6).digest == CurationRules(minimum_score=6.0).digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_column": ""}, "text_column is empty"),
        ({"score_column": ""}, "score_column is empty"),
        ({"text_column": "a", "score_column": "a"}, "both 'a'"),
        ({"minimum_score": math.nan}, "minimum_score is nan"),
        ({"minimum_score": math.inf}, "minimum_score is inf"),
        ({"minimum_words": 0}, "minimum_words is 0"),
        ({"minimum_words": 9, "maximum_words": 8}, "maximum_words is 8, less than minimum_words 9"),
    ],
)
def test_contradictions_are_refused_in_one_line(values, message):
    with pytest.raises(InputError, match=message) as caught:
        CurationRules(**values)
    assert "\n" not in str(caught.value)
