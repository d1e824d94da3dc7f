from dataclasses import replace

import pytest

from sidlsg.report.run_page import outcome
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import RuleResult

FAILED = (
    RuleResult(rule="a", found="1", passed=True),
    RuleResult(rule="b", found="2", passed=False),
    RuleResult(rule="c", found="3", passed=False),
)


def result(records):
    records.check()
    found = outcome(records)
    return found.word, f"{found.headline} {found.detail}"


def test_promoted(make_run):
    records = make_run().records
    assert result(records) == (
        "promoted",
        "Version 3 was promoted: it is the champion now. The champion before was version 2.",
    )


def test_promoted_as_the_first(make_run):
    records = make_run().records
    # An alias `previous` may be left from earlier: what counts is what the gate compared with.
    first = replace(
        records,
        verdict=replace(records.verdict, champion_version=None),
        promotion=replace(records.promotion, previous_version=1),
    )
    assert result(first)[1] == "Version 3 was promoted: it is the champion now. There was none before."


def test_already_champion(make_run):
    records = make_run().records
    again = replace(records, promotion=replace(records.promotion, changed=False))
    assert result(again) == (
        "already champion",
        "Version 3 is the champion already, and passed the gate again. Nothing was changed. "
        "The champion before it was version 2.",
    )


def test_rejected(make_run):
    records = make_run(rules=FAILED).records
    assert result(records) == (
        "rejected",
        "Version 3 was rejected: 2 of 3 rules failed. Version 2 stays the champion.",
    )
    alone = replace(records, promotion=replace(records.promotion, champion_version=None))
    assert result(alone)[1].endswith("There is no champion yet.")


def test_a_champion_that_does_not_pass_any_more(make_run):
    records = make_run(rules=FAILED).records
    stays = replace(records, promotion=replace(records.promotion, champion_version=3, previous_version=None))
    assert result(stays) == (
        "rejected",
        "Version 3 was rejected: 2 of 3 rules failed. It is the champion already and stays so. "
        "No version was champion before it.",
    )


@pytest.mark.parametrize(
    ("record", "field", "value", "words"),
    [
        ("student", "prompts_sha256", "0" * 64, "student's prompt set"),
        ("version", "student_sha256", "0" * 64, "the student of version 3 of 'shapes'"),
        ("scorecard", "student_sha256", "0" * 64, "scorecard's student"),
        ("verdict", "scorecard_sha256", "0" * 64, "verdict's scorecard"),
        ("verdict", "name", "other", "verdict is of model 'other'"),
        ("promotion", "name", "other", "promotion is of model 'other'"),
        ("verdict", "version", 4, "verdict is of version 4"),
        ("promotion", "champion_version", 2, "passed, but the promotion says champion 2"),
        ("verdict", "passed", False, "did not pass, but the promotion says champion 3, changed: True"),
    ],
)
def test_records_of_unlike_runs_are_refused(make_run, record, field, value, words):
    records = make_run().records
    mixed = replace(records, **{record: replace(getattr(records, record), **{field: value})})
    with pytest.raises(InputError) as error:
        mixed.check()
    assert words in str(error.value)
    assert "one run" in str(error.value)
    assert "\n" not in str(error.value)
