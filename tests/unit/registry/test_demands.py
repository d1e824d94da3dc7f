"""Rules about other things than scores: protocols, cost, consent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sidlsg.registry.rules import Approval, Facts, MaximumCost, Required
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Scorecard


def test_a_protocol_must_be_on_the_card(make_scorecard: Any) -> None:
    card = Scorecard.load(make_scorecard("d" * 64))
    assert Required(subject="student 1 step", protocol="fid/judge-2k").apply(card).passed
    missing = Required(subject="student 1 step", protocol="fid/coco").apply(card)
    assert not missing.passed
    assert missing.found == "it is scored under: fid/judge-2k, judge/attributes"


@pytest.mark.parametrize(("seconds", "passed"), [(7200.0, True), (7201.0, False), (None, False)])
def test_training_may_cost_so_much(seconds: float | None, passed: bool) -> None:
    result = MaximumCost(maximum=5.0, hourly_price=2.5).apply(Facts(training_seconds=seconds))
    assert result.passed is passed
    assert ("not known" in result.found) is (seconds is None)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_price_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="hourly_price"):
        MaximumCost(maximum=1.0, hourly_price=value)


@pytest.mark.parametrize(
    ("tags", "people", "passed"),
    [
        ({}, (), False),
        ({"approved_by": " "}, (), False),
        ({"approved_by": "ann"}, (), True),
        ({"approved_by": "ann"}, ("ann", "ben"), True),
        ({"approved_by": "eve"}, ("ann", "ben"), False),
    ],
)
def test_somebody_must_have_agreed(tags: dict[str, str], people: tuple[str, ...], passed: bool) -> None:
    result = Approval(people=people).apply(Facts(name="m", version=3, tags=tags))
    assert result.passed is passed
    if not passed:
        assert "set the version's tag approved_by" in result.found
        assert "run `sidlsg approve m 3 --by " in result.found
