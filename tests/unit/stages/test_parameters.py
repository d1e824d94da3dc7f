from pathlib import Path

import pytest

from sidlsg.prompts.rules import Columns, CurationRules, ScoreRule
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate_rules import gate_rules
from sidlsg.stages.inputs import LONGEST_TEXT, curation_rules, settled_text, text_of


def test_no_changes_are_the_defaults() -> None:
    assert curation_rules("{}") == CurationRules()


def test_given_rules_replace_the_defaults() -> None:
    assert curation_rules('{"score.minimum": 5, "columns": {"text": "caption"}}') == CurationRules(
        score=ScoreRule(minimum=5), columns=Columns(text=("caption",))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"score.minimun": 5}', r"no value 'score.minimun' \(did you mean 'minimum'\?\)"),
        ('{"length.minimum_words": 2.5}', "length.minimum_words is 2.5"),
        ('{"length.minimum_words": 0}', "give 1 or more"),
    ],
)
def test_unusable_rules_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        curation_rules(text)


def test_the_tiny_recipe_has_a_gate() -> None:
    assert gate_rules("tiny").floors[0].limit > 0


def test_a_recipe_without_a_gate_is_refused_and_one_with_a_gate_is_named() -> None:
    with pytest.raises(InputError, match=r"'sd21' has no gate.*with one: scenes, .*, tiny"):
        gate_rules("sd21")


@pytest.mark.parametrize("text", ["", "[networks]\nplace = 'a.toml'\n", "a = 1"])
def test_a_text_stays_as_it_is(text: str) -> None:
    assert settled_text(text, "weights") == text_of(text) == text


def test_the_place_of_a_text_is_pinned_and_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_bytes("\ufeffa = 1\r\n".encode())
    settled = settled_text(str(path), "weights")
    assert settled.startswith(f"{path}@sha256:")
    assert text_of(settled) == "a = 1\n"
    path.write_text("a = 2\n")
    with pytest.raises(InputError, match="it was changed"):
        text_of(settled)


def test_a_text_that_mlflow_would_not_take_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"gate_rules is a text of 6,001 char.*s3://BUCKET/gate_rules\.toml@sha256:"):
        settled_text("#" * (LONGEST_TEXT + 1), "gate_rules")
