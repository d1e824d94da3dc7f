from dataclasses import replace
from pathlib import Path

import pytest

from sidlsg.report.contenders import Column, Entry, contenders, guidance_name, student_names
from sidlsg.storage.records import StyleMean
from unit.report.cards import card, score, subject

TEACHER = subject("teacher 20 steps", 20, {"fid": 14.0, "clip": 0.31}, guidance_scale=7.5)
REAL = subject("real images", 0, {"fid": 2.0})


def entry(label, *subjects, kappa=None, **changes):
    if kappa is not None:
        changes = {"strategy": "lsg", "kappas": (kappa,) * 4, **changes}
    return Entry(label=label, card=card(*subjects, **changes), folder=Path(label))


def student(fid, steps=1):
    return subject(f"student {steps} step{'s' if steps > 1 else ''}", steps, {"fid": fid})


@pytest.mark.parametrize(
    "change", [{"protocol": "p"}, {"n": 5}, {"reference_digest": "e" * 64}, {"name": "kid"}, {"higher_is_better": True}]
)
def test_scores_that_are_not_comparable_have_different_columns(change):
    one = score("fid", 8.15)
    assert Column.of(one) == Column.of(replace(one, value=3.0, interval=(2.0, 4.0)))
    assert Column.of(one) != Column.of(replace(one, **change))


def names(*entries):
    return [(one.kind, one.name) for one in contenders(entries)]


@pytest.mark.parametrize(
    ("strategy", "kappas", "name"),
    [
        ("lsg", (1.5, 1.5, 1.5, 1.5), "lsg κ = 1.5"),
        ("lsg", (1.0, 1.0, 1.0, 1.0), "lsg κ = 1"),
        ("long", (1.0, 1.0, 1.0, 3.0), "long κ4 = 3"),
        ("short", (1.0, 0.5, 0.5, 1.0), "short κ2 = κ3 = 0.5"),
        ("anti_cfg", (-1.0, -1.0, -1.0, 1.0), "anti_cfg κ1 = κ2 = κ3 = −1"),
        ("custom", (2.0, 1.0, 1.5, 2.0), "custom κ1 = κ4 = 2, κ3 = 1.5"),
        ("none", (1.0, 1.0, 1.0, 1.0), "none, every κ = 1"),
    ],
)
def test_guidance_by_name(strategy, kappas, name):
    assert guidance_name(strategy, kappas) == name


def test_one_card_keeps_its_names_and_puts_the_student_first():
    found = names(entry("x", TEACHER, student(9.0), REAL, kappa=1.5))
    assert found == [("student", "student 1 step"), ("teacher", "teacher 20 steps"), ("real", "real images")]


def test_students_of_several_cards_are_named_by_their_guidance_and_all_else_stands_once():
    one = entry("a", TEACHER, student(9.0), REAL, kappa=1.5, images_seen=1_000_000)
    other = entry("b", TEACHER, student(8.0), REAL, kappa=2.0)
    found = contenders([one, other])
    assert [(each.kind, each.name) for each in found] == [
        ("student", "lsg κ = 1.5"),
        ("student", "lsg κ = 2"),
        ("teacher", "teacher 20 steps"),
        ("real", "real images"),
    ]
    assert [each.note for each in found] == [
        "a · 1,000,000 images seen",
        "b",
        "guidance scale 7.5",
        "real-image baseline",
    ]


def test_what_is_not_known_or_not_unlike_is_named_by_label():
    entries = [entry("a", student(9.0)), entry("b", student(9.0), kappa=2.0), entry("c", student(8.0), kappa=2.0)]
    assert student_names(entries) == ["a", "lsg κ = 2 (b)", "lsg κ = 2 (c)"]


def test_students_that_differ_in_more_than_guidance_are_named_by_label():
    one = entry("lsg kappa=1.5", student(9.0), kappa=1.5, recipe_values={"lr": 1e-4, "scales": {"kappa": 1.5}})
    other = entry("lsg kappa=2", student(8.0), kappa=2.0, recipe_values={"scales": {"kappa": 2}, "lr": 1e-4})
    assert student_names([one, other]) == ["lsg κ = 1.5", "lsg κ = 2"]
    four = entry("lsg kappa=2 steps=4", student(7.0, steps=4), kappa=2.0, recipe_values={"lr": 1e-4, "steps": 4})
    found = contenders([one, other, four])
    assert [(each.name, each.note) for each in found] == [("lsg kappa=1.5", ""), ("lsg kappa=2", ""), (four.label, "")]


def test_several_ways_of_sampling_a_student_have_different_names():
    found = names(entry("a", student(9.0), student(7.0, steps=4), kappa=2.0), entry("b", student(8.0), kappa=3.0))
    assert found == [("student", "lsg κ = 2, 1 step"), ("student", "lsg κ = 2, 4 steps"), ("student", "lsg κ = 3")]


def test_a_teachers_cards_that_measured_unlike_things_make_one_row():
    style = StyleMean(protocol="hpsv2/v2.0", style="photo", mean=27.0, deviation=0.1)
    more = subject("teacher 20 steps", 20, {"clip": 0.31, "recall": 0.5}, guidance_scale=7.5, styles=(style,))
    (one,) = [x for x in contenders([entry("a", TEACHER), entry("b", more)]) if x.kind == "teacher"]
    assert {column.name: reading.value for column, reading in one.readings.items()} == {
        "fid": 14.0,
        "clip": 0.31,
        "recall": 0.5,
    }
    assert one.styles == (style,)


def test_numbers_that_disagree_are_both_shown():
    other = subject("teacher 20 steps", 20, {"fid": 14.5}, guidance_scale=7.5)
    found = names(entry("a", TEACHER), entry("b", other))
    assert found == [("teacher", "teacher 20 steps (a)"), ("teacher", "teacher 20 steps (b)")]


def test_another_reference_is_no_disagreement():
    other = subject("real images", 0, [score("fid", 3.0, reference_digest="e" * 64)])
    (one,) = contenders([entry("a", REAL), entry("b", other)])
    assert {column.reference_digest[0]: reading.value for column, reading in one.readings.items()} == {
        "d": 2.0,
        "e": 3.0,
    }


def test_unlike_teachers_stand_apart():
    found = contenders(
        [
            entry("a", TEACHER, student(9.0), kappa=1.5),
            entry("b", TEACHER, student(8.0), kappa=2.0, teacher_sha256="b" * 64),
        ]
    )
    assert [one.name for one in found if one.kind == "teacher"] == [
        "teacher 20 steps, aaaaaaaa",
        "teacher 20 steps, bbbbbbbb",
    ]
    assert [one.note for one in found if one.kind == "student"] == ["a · teacher aaaaaaaa", "b · teacher bbbbbbbb"]


def test_only_what_every_card_took_from_the_teacher_is_said_to_be():
    own, taken = entry("a", TEACHER), entry("b", TEACHER, reused=("teacher 20 steps",))
    assert [one.reused for one in contenders([own, taken])] == [False]
    assert [one.reused for one in contenders([taken, entry("c", TEACHER, reused=("teacher 20 steps",))])] == [True]
