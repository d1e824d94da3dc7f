import tomllib

import pytest

from sidlsg.prompts.rule_files import read_rules, rules_toml, rules_with
from sidlsg.prompts.rules import Columns, CurationRules, ScoreRule
from sidlsg.runtime.errors import InputError


def test_a_file_replaces_what_it_names(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text('[score]\nminimum = 5\ncuts = [6]\n[columns]\ntext = "caption"\n[unsafe]\nwords = false\n')
    rules = rules_with(read_rules(path))
    assert rules.score == ScoreRule(minimum=5.0, cuts=(6.0,))
    assert rules.columns == Columns(text=("caption",))
    assert not rules.unsafe.words
    assert rules.length == CurationRules().length


def test_later_changes_win_and_dotted_names_are_sections():
    rules = rules_with({"score": {"minimum": 5.0}}, {"score.minimum": 5.5, "score.cuts": []})
    assert rules.score == ScoreRule(minimum=5.5, cuts=())


def test_one_value_alone_stands_for_a_list_of_it():
    rules = rules_with({"score.cuts": 7, "unsafe.tags": "UNSURE"})
    assert (rules.score.cuts, rules.unsafe.tags) == ((7.0,), ("UNSURE",))


def test_printed_default_cuts_are_default_cuts():
    rules = rules_with(tomllib.loads(rules_toml(CurationRules())), {"score.minimum": 6.3})
    assert rules.score == ScoreRule(minimum=6.3, cuts=(6.5,))


def test_printed_rules_are_the_same_when_they_are_read():
    rules = rules_with({"unsafe.words_file": 'a "b"\\c', "score.cuts": [7.5], "columns.language": []})
    assert rules_with(tomllib.loads(rules_toml(rules))) == rules


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scor.minimum": 1}, r"no section 'scor' \(did you mean 'score'\?\)"),
        ({"score.minimun": 1}, r"no value 'score.minimun' \(did you mean 'minimum'\?\); score has: enabled"),
        ({"score": 3}, "no value 'score'"),
        ({"score.minimum": "x"}, "score.minimum is 'x'"),
        ({"score.minimum": True}, "score.minimum is True; it must be like 6.0"),
        ({"score.enabled": 1}, "score.enabled is 1; it must be true or false"),
        ({"length.minimum_words": 2.5}, "length.minimum_words is 2.5"),
        ({"score.cuts": [1]}, "give rising numbers"),
    ],
)
def test_errors_name_the_value(change, message):
    with pytest.raises(InputError, match=message):
        rules_with(change)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "--print-rules"), (b"[score", "is not TOML"), (b"\xff", "is not UTF-8")]
)
def test_a_file_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "rules.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_rules(path)
