"""The gate's rules, judged by hand-made scores and facts."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest

from sidlsg.registry.gate_rules import (
    Approval,
    Better,
    Champion,
    DataFree,
    Facts,
    Floor,
    GateRules,
    MaximumCost,
    NoRegression,
    NotWorse,
    Ratio,
    Required,
)
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Score, Scorecard, SubjectScores

STUDENT, TEACHER = "student 1 step", "teacher 1 step"


def card(fid: float = 2.0, accuracy: float = 0.9, n: int = 2000, teacher_n: int = 2000) -> Scorecard:
    def scores(fid: float, accuracy: float, n: int) -> tuple[Score, ...]:
        return (
            Score(name="fid", value=fid, protocol="fid/p", n=n, reference_digest="r", higher_is_better=False),
            Score(name="accuracy", value=accuracy, protocol="judge", n=n, reference_digest="r", higher_is_better=True),
        )

    return Scorecard(
        student_sha256="s",
        teacher_sha256="t",
        package_sha256="p",
        subjects=(
            SubjectScores(subject=STUDENT, steps=1, guidance_scale=0.0, scores=scores(fid, accuracy, n)),
            SubjectScores(subject=TEACHER, steps=1, guidance_scale=0.0, scores=scores(20.0, 0.4, teacher_n)),
        ),
        grids=(),
        grid_prompts=(),
        reused=(),
        seconds=0.0,
    )


@pytest.mark.parametrize(
    ("score", "value", "limit", "passed"),
    [
        ("fid", 2.0, 2.0, True),
        ("fid", 2.1, 2.0, False),
        ("accuracy", 0.9, 0.9, True),
        ("accuracy", 0.89, 0.9, False),
        ("fid", math.nan, 2.0, False),
        ("accuracy", math.nan, 0.9, False),
    ],
)
def test_a_floor_follows_the_scores_direction(score, value, limit, passed):
    result = Floor(subject=STUDENT, score=score, limit=limit).apply(card(**{score: value}))
    assert result.passed is passed


def test_a_result_has_the_numbers():
    result = Floor(subject=STUDENT, score="fid", limit=3).apply(card(fid=2.5))
    assert result.rule == "fid of student 1 step is at most 3"
    assert result.found == "2.5 (fid/p, 2000 images)"
    assert "at least" in Floor(subject=STUDENT, score="accuracy", limit=0.5).apply(card()).rule


def test_rules_of_the_student_judge_one_of_several_steps():
    few = card(fid=2.5)
    few = dataclasses.replace(
        few, subjects=(dataclasses.replace(few.subjects[0], subject="student 4 steps", steps=4), *few.subjects[1:])
    )
    floor = Floor(score="fid", limit=3).apply(few)
    assert (floor.rule, floor.passed) == ("fid of student 4 steps is at most 3", True)
    champion = Champion(version=2, scorecard=card(fid=2.0))
    compared = NoRegression(score="fid", tolerance=1).apply(few, champion)
    assert compared.passed
    assert "champion version 2 (student 1 step) has 2" in compared.found
    with pytest.raises(InputError, match="no subject 'student 2 steps'"):
        Floor(subject="student 2 steps", score="fid", limit=3).apply(few)


@pytest.mark.parametrize(
    ("score", "value", "factor", "passed"),
    [
        ("fid", 5.0, 0.25, True),  # the teacher has 20
        ("fid", 5.1, 0.25, False),
        ("accuracy", 0.8, 2.0, True),  # the teacher has 0.4
        ("accuracy", 0.79, 2.0, False),
    ],
)
def test_a_ratio_compares_two_subjects(score, value, factor, passed):
    rule = Ratio(subject=STUDENT, score=score, against_subject=TEACHER, factor=factor)
    assert rule.apply(card(**{score: value})).passed is passed


def test_a_ratio_to_a_number_below_0_is_an_error():
    below = card()
    student, teacher = below.subjects
    scores = tuple(dataclasses.replace(score, value=-0.5) for score in teacher.scores)
    below = dataclasses.replace(below, subjects=(student, dataclasses.replace(teacher, scores=scores)))
    with pytest.raises(InputError, match="a multiple of a number below 0 says nothing"):
        Ratio(subject=STUDENT, score="fid", against_subject=TEACHER, factor=3).apply(below)


def test_a_ratio_of_unlike_counts_is_an_error():
    with pytest.raises(InputError, match="unlike n"):
        Ratio(subject=STUDENT, score="fid", against_subject=TEACHER, factor=1).apply(card(teacher_n=100))


@pytest.mark.parametrize(
    ("score", "value", "tolerance", "passed"),
    [
        ("fid", 2.25, 0.25, True),  # the champion has 2.0
        ("fid", 2.5, 0.25, False),
        ("fid", 1.0, 0.0, True),
        ("accuracy", 0.75, 0.25, True),  # the champion has 1.0
        ("accuracy", 0.5, 0.25, False),
        ("fid", math.nan, 0.25, False),
    ],
)
def test_no_regression_allows_its_tolerance(score, value, tolerance, passed):
    champion = Champion(version=3, scorecard=card(fid=2.0, accuracy=1.0))
    result = NoRegression(subject=STUDENT, score=score, tolerance=tolerance).apply(card(**{score: value}), champion)
    assert result.passed is passed
    assert "champion version 3" in result.found


@pytest.mark.parametrize(
    ("champion", "passed", "words"),
    [
        (None, True, "no champion yet"),
        (Champion(version=1, scorecard=None, is_challenger=True), True, "is this version"),
        (Champion(version=1, scorecard=None, note="has no scorecard"), False, "version 1 has no scorecard"),
        (Champion(version=1, scorecard=card(n=100)), False, "unlike n .* evaluate and gate champion version 1 again"),
        (
            Champion(version=1, scorecard=dataclasses.replace(card(), subjects=())),
            False,
            "no subject .* evaluate and gate champion version 1 again",
        ),
    ],
)
def test_a_champion_without_comparable_scores(champion, passed, words):
    result = NoRegression(subject=STUDENT, score="fid", tolerance=0).apply(card(), champion)
    assert result.passed is passed
    assert re.search(words, result.found)


def with_intervals(fid: float, half: float) -> Scorecard:
    """The FID's interval reaches `half` to each side."""
    student, teacher = card(fid=fid).subjects
    distance, accuracy = student.scores
    sure = dataclasses.replace(distance, interval=(fid - half, fid + half))
    return dataclasses.replace(card(), subjects=(dataclasses.replace(student, scores=(sure, accuracy)), teacher))


@pytest.mark.parametrize(
    ("value", "not_worse", "better"),
    [
        (9.0, True, True),  # the champion has 15, and the noise is 5
        (10.5, True, False),
        (15.0, True, False),
        (19.5, True, False),
        (20.5, False, False),
        (math.nan, False, False),
    ],
)
def test_a_difference_is_weighed_against_noise(value, not_worse, better):
    champion = Champion(version=3, scorecard=with_intervals(15.0, 3.0))
    challenger = with_intervals(value, 4.0)
    for kind, passed in ((NotWorse, not_worse), (Better, better)):
        result = kind(subject=STUDENT, score="fid").apply(challenger, champion)
        assert result.passed is passed
        assert math.isnan(value) or "(noise 5)" in result.found


@pytest.mark.parametrize("kind", [NotWorse, Better])
def test_without_intervals_nothing_is_known_of_noise(kind):
    champion = Champion(version=3, scorecard=with_intervals(15.0, 3.0))
    result = kind(subject=STUDENT, score="fid").apply(card(fid=1.0), champion)
    assert not result.passed
    assert "noise not known" in result.found
    assert kind(subject=STUDENT, score="fid").apply(card(), None).passed


def test_all_rules_apply_in_order():
    rules = GateRules(
        floors=(Floor(subject=STUDENT, score="fid", limit=1),),
        ratios=(Ratio(subject=STUDENT, score="fid", against_subject=TEACHER, factor=0.5),),
        no_regression=(NoRegression(subject=STUDENT, score="accuracy", tolerance=0.01),),
        not_worse=(NotWorse(subject=STUDENT, score="accuracy"),),
        better=(Better(subject=STUDENT, score="fid"),),
    )
    results = rules.apply(card(), None)
    assert [result.passed for result in results] == [False, True, True, True, True]
    assert "better than the champion's" in results[-1].rule


def test_a_rule_that_does_not_fit_the_scorecard_is_an_error():
    with pytest.raises(InputError, match="no subject 'nobody'"):
        Floor(subject="nobody", score="fid", limit=1).apply(card())
    with pytest.raises(InputError, match="no score 'kid'"):
        Floor(subject=STUDENT, score="kid", limit=1).apply(card())


def test_no_rules_are_refused():
    with pytest.raises(InputError, match="at least one rule"):
        GateRules()


def test_a_record_of_meaningless_rules_is_refused():
    meaningless = GateRules(ratios=(Ratio(score="fid", against_subject=TEACHER, factor=0),))
    with pytest.raises(InputError, match=r"ratios\.0\.factor is .*; give a number above 0"):
        GateRules.from_json(meaningless.to_json())


def test_the_digest_follows_the_rules_and_json_brings_them_back(tmp_path):
    loose = GateRules(floors=(Floor(subject=STUDENT, score="fid", limit=3),))
    tight = GateRules(floors=(Floor(subject=STUDENT, score="fid", limit=2),))
    assert loose.digest != tight.digest
    loose.save(tmp_path)
    assert GateRules.load(tmp_path) == loose
    assert GateRules.load(tmp_path).digest == loose.digest


def test_a_protocol_must_be_on_the_card(make_scorecard: Any) -> None:
    card = Scorecard.load(make_scorecard("d" * 64))
    assert Required(subject="student 1 step", protocol="fid/judge-2k").apply(card).passed
    missing = Required(subject="student 1 step", protocol="fid/coco").apply(card)
    assert not missing.passed
    assert missing.found == "it is scored under: fid/judge-2k; judge/attributes"


@pytest.mark.parametrize(("seconds", "passed"), [(7200.0, True), (7201.0, False), (None, False)])
def test_training_may_cost_so_much(seconds: float | None, passed: bool) -> None:
    result = MaximumCost(maximum=5.0, hourly_price=2.5).apply(Facts(training_seconds=seconds))
    assert result.passed is passed
    assert ("not known" in result.found) is (seconds is None)


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


def test_a_student_may_be_required_to_be_data_free() -> None:
    assert DataFree().apply(Facts()).passed
    result = DataFree().apply(Facts(tags={"real_images": "300 from shapes (SHA-256 ab), licence: CC0-1.0"}))
    assert not result.passed
    assert result.found == "with real images: 300 from shapes (SHA-256 ab), licence: CC0-1.0"


def test_rules_without_it_have_the_json_of_before_and_it_alone_asks_for_no_score() -> None:
    floors = (Floor(subject=STUDENT, score="fid", limit=3),)
    assert "data_free" not in GateRules(floors=floors).to_json()
    with_it = GateRules(floors=floors, data_free=(DataFree(),))
    assert GateRules.from_json(with_it.to_json()) == with_it
    assert with_it.digest != GateRules(floors=floors).digest
    with pytest.raises(InputError, match="no rule asks for a score"):
        GateRules(data_free=(DataFree(),))
