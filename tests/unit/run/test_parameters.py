import pytest

from sidlsg.errors import InputError
from sidlsg.prompts.rules import Columns, CurationRules, ScoreRule
from sidlsg.run.parameters import curation_rules, gate_rules


def test_no_changes_are_the_defaults() -> None:
    assert curation_rules("{}") == CurationRules()


def test_given_rules_replace_the_defaults() -> None:
    assert curation_rules('{"score.minimum": 5, "columns": {"text": "caption"}}') == CurationRules(
        score=ScoreRule(minimum=5), columns=Columns(text=("caption",))
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"score.minimun": 5}', r"no value 'score.minimun' \(did you mean 'minimum'\?\)"),
        ('{"length.minimum_words": 2.5}', "length.minimum_words is 2.5"),
        ('{"length.minimum_words": 0}', "give 1 or more"),
    ],
)
def test_unusable_rules_are_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        curation_rules(text)


def test_the_tiny_recipe_has_a_gate() -> None:
    assert gate_rules("tiny").floors[0].limit > 0


def test_a_recipe_without_a_gate_is_refused_and_one_with_a_gate_is_named() -> None:
    with pytest.raises(InputError, match=r"'sd21' has no gate.*with one: sd15, .*, tiny"):
        gate_rules("sd21")
