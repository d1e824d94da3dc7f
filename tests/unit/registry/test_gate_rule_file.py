"""The gate's rules as TOML: each kind, read back as it was, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidlsg.cli.app import app
from sidlsg.registry.gate_rule_file import gate_rules_text, parse_gate_rules, read_gate_rules
from sidlsg.registry.gate_rules import (
    Approval,
    Better,
    DataFree,
    Floor,
    GateRules,
    MaximumCost,
    NoRegression,
    NotWorse,
    Ratio,
    Required,
)
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate_rules import GATES

EVERY_KIND = """
[[floor]]
score = "attributes"
limit = 0.95

[[floor]]
subject = "teacher 1 step"
score = "attributes"
limit = 1

[[ratio]]
score = "fid"
against_subject = "teacher 20 steps"
factor = 3.0

[[no_regression]]
score = "fid"
tolerance = 1.5

[[not_worse]]
score = "attributes"

[[better]]
score = "fid"

[[required]]
protocol = "fid/judge"

[data_free]

[cost]
maximum = 20
hourly_price = 2.5

[approval]
people = ["Ann", "ben \\"b\\""]
"""


def test_every_kind_is_read_and_written() -> None:
    rules = parse_gate_rules(EVERY_KIND)
    student = "student 1 step"
    assert rules == GateRules(
        floors=(
            Floor(subject=student, score="attributes", limit=0.95),
            Floor(subject="teacher 1 step", score="attributes", limit=1.0),
        ),
        ratios=(Ratio(subject=student, score="fid", against_subject="teacher 20 steps", factor=3.0),),
        no_regression=(NoRegression(subject=student, score="fid", tolerance=1.5),),
        not_worse=(NotWorse(subject=student, score="attributes"),),
        better=(Better(subject=student, score="fid"),),
        required=(Required(subject=student, protocol="fid/judge"),),
        data_free=(DataFree(),),
        costs=(MaximumCost(maximum=20.0, hourly_price=2.5),),
        approvals=(Approval(people=("Ann", 'ben "b"')),),
    )
    assert parse_gate_rules(gate_rules_text(rules)) == rules


@pytest.mark.parametrize("recipe", sorted(GATES))
def test_a_recipes_rules_are_printed_to_begin_with(recipe: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["gate-rules", "--recipe", recipe])
    assert result.exit_code == 0
    file = tmp_path / "rules.toml"
    file.write_text(result.output)
    assert read_gate_rules(file) == GATES[recipe]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[flor]]\nscore = 'x'", "no rule is called 'flor' (did you mean 'floor'?)"),
        ("floor = 3", "floor must be a table"),
        ("floor = [3]", "floor must be a table"),
        ("[[floor]]\nscore = 'x'", "[floor]: limit is missing; give it"),
        ("[[floor]]\nscore = 'x'\nlimit = '5'", "[floor]: limit is '5'; give a number"),
        ("[[floor]]\nscore = 5\nlimit = 5", "[floor]: score is 5; give a text"),
        ("[[floor]]\nscore = 'x'\nlimit = true", "[floor]: limit is True; give a number"),
        ("[[floor]]\nscore = 'x'\nlimit = nan", "[floor]: limit is nan; give a finite number"),
        (
            "[[floor]]\nscore = 'x'\nlimit = 2020-01-01",
            "[floor]: a value is a date or a time; give a text, a number or a list",
        ),
        ("[[floor]]\nscore = 'x'\nlimt = 5", "no value 'limt' (did you mean 'limit'?)"),
        (
            "[[better]]\nscore = 'x'\n[cost]\nmaximum = 0\nhourly_price = 1",
            "[cost]: maximum is 0; give a number above 0",
        ),
        (
            "[[better]]\nscore = 'x'\n[cost]\nmaximum = 1\nhourly_price = -1",
            "[cost]: hourly_price is -1; give a number above 0",
        ),
        (
            "[[better]]\nscore = 'x'\n[cost]\nmaximum = 1\nhourly_price = inf",
            "[cost]: hourly_price is inf; give a finite number",
        ),
        (
            "[[better]]\nscore = 'x'\n[cost]\nmaximum = 1\nhourly_price = nan",
            "[cost]: hourly_price is nan; give a finite number",
        ),
        (
            "[[ratio]]\nscore = 'x'\nagainst_subject = 't'\nfactor = 0",
            "[ratio]: factor is 0; give a number above 0",
        ),
        ("[[no_regression]]\nscore = 'x'\ntolerance = -1", "tolerance is -1; give a number of at least 0"),
        ("[[better]]\nscore = 'x'\n[approval]\npeople = 'ann'", "[approval]: people is 'ann'; give a list"),
        ("[[better]]\nscore = 'x'\n[approval]\npeople = ['']", "people with names"),
        ("[[better]]\nscore = 'x'\n[approval]\ntag = 'verdict'", "must be approved_by"),
        ("[approval]", "no rule asks for a score"),
        ("", "a gate without rules would let everything through"),
        ("a = [", "not TOML"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_gate_rules(text)
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_gate_rules(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        read_gate_rules(tmp_path / "binary.toml")
