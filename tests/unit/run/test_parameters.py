import pytest

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.run.parameters import curation_rules, gate_rules


def test_no_changes_are_the_defaults() -> None:
    assert curation_rules("{}") == CurationRules()


def test_given_rules_replace_the_defaults() -> None:
    assert curation_rules('{"minimum_score": 5, "text_column": "caption"}') == CurationRules(
        minimum_score=5, text_column="caption"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"minimum_scor": 5}', r"no value 'minimum_scor' \(did you mean 'minimum_score'\?\)"),
        ('{"minimum_words": 2.5}', "must be of kind int"),
        ('{"minimum_words": true}', "must be of kind int"),
        ('{"minimum_score": "6"}', "must be of kind float"),
        ('{"minimum_words": 0}', "give 1 or more"),
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
