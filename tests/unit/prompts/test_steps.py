import math

import pytest

from sidlsg.prompts import steps
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source import Prompt
from sidlsg.prompts.steps import select
from sidlsg.records import FunnelStep


def prompt(text="a red dog", row=0, score=7.0):
    return Prompt(text, row, score)


@pytest.mark.parametrize(("score", "kept"), [(6.0, True), (5.999, False), (9.0, True), (math.nan, False)])
def test_score_step_keeps_the_minimum_itself(score, kept):
    assert (steps.score_step(CurationRules()).apply(prompt(score=score)) is not None) == kept


def test_clean_step_changes_the_text_and_nothing_else():
    step = steps.clean_step()
    assert step.apply(prompt(" a &amp; b ", 3, 6.5)) == Prompt("a & b", 3, 6.5)
    assert step.apply(prompt(" &nbsp; ")) is None


@pytest.mark.parametrize(("text", "kept"), [("a", False), ("a b", True), ("a b c", True), ("a b c d", False)])
def test_length_step_counts_words(text, kept):
    step = steps.length_step(CurationRules(minimum_words=2, maximum_words=3))
    assert (step.apply(prompt(text)) is not None) == kept


def test_duplicates_step_keeps_the_first_whatever_the_case():
    step = steps.duplicates_step()
    assert step.apply(prompt("A red dog", 0)) == prompt("A red dog", 0)
    assert step.apply(prompt("a RED dog", 1)) is None
    assert step.apply(prompt("a red dog.", 2)) is not None
    assert steps.duplicates_step().apply(prompt("a red dog", 3)) is not None, "a new step knows no earlier texts"


def test_held_out_step_sees_through_disguise():
    step = steps.held_out_step(["A &quot;red&quot; dog."])
    assert step.apply(prompt("a red dog")) is None
    assert step.apply(prompt("a red dogs")) is not None


def test_select_counts_every_step():
    rows = [
        prompt("good enough text", 0),
        prompt("low score text", 1, score=1.0),
        prompt("", 2),
        prompt("short", 3),
        prompt("GOOD  enough text", 4),
        prompt("Held out, text", 5),
        prompt("another good text", 6),
    ]
    kept, funnel = select(rows, steps.curation_steps(CurationRules(), ["held out text"]))
    assert {p.source_row for p in kept} == {0, 6}
    assert funnel == tuple(
        FunnelStep(name=name, rows_in=rows_in, rows_out=rows_out)
        for name, rows_in, rows_out in [
            ("read", 7, 7),
            ("score", 7, 6),
            ("clean", 6, 5),
            ("length", 5, 4),
            ("duplicates", 4, 3),
            ("held_out", 3, 2),
        ]
    )
