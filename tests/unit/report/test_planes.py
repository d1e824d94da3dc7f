from pathlib import Path
from xml.etree import ElementTree

from sidlsg.report.contenders import Entry, contenders
from sidlsg.report.scoreboard import planes
from unit.report.cards import card, score, subject

TEACHER = subject("teacher 20 steps", 20, {"fid": 14.0, "clip": 0.31})


def entry(label, kappas, strategy, scores, **changes):
    student = subject("student 1 step", 1, scores)
    return Entry(label=label, card=card(student, TEACHER, strategy=strategy, kappas=kappas, **changes), folder=Path())


def lsg(kappa, fid, clip, **changes):
    return entry(f"lsg {kappa}", (kappa,) * 4, "lsg", {"fid": fid, "clip": clip}, **changes)


def long(kappa, fid, clip):
    return entry(f"long {kappa}", (1.0, 1.0, 1.0, kappa), "long", {"fid": fid, "clip": clip})


def curves(plane):
    chart = ElementTree.fromstring(plane.svg)
    return [[tuple(map(float, p.split(","))) for p in e.get("points").split()] for e in chart.iter("polyline")]


def test_curves_are_in_the_order_of_kappa_whatever_the_entries_order():
    (plane,) = planes(
        contenders([lsg(3.0, 13.0, 0.3), lsg(1.5, 8.0, 0.28), long(3.0, 12.0, 0.27), lsg(2.0, 9.0, 0.29)])
    )
    (line,) = curves(plane)
    # clip rises with κ, and so does the distance: rightwards, and upwards.
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    assert len(line) == 3
    assert (plane.x.name, plane.y.name) == ("clip", "fid")
    assert (plane.joined, plane.kinds) == (("lsg",), ("student", "teacher"))


def test_each_strategy_has_its_own_curve_and_so_has_each_teacher():
    ones = [lsg(1.5, 8.0, 0.28), lsg(2.0, 9.0, 0.29), long(2.0, 12.0, 0.27), long(3.0, 13.0, 0.28)]
    (plane,) = planes(contenders(ones))
    assert plane.joined == ("lsg", "long")
    assert [len(line) for line in curves(plane)] == [2, 2]
    (plane,) = planes(contenders([lsg(1.5, 8.0, 0.28), lsg(2.0, 9.0, 0.29, teacher_sha256="b" * 64)]))
    assert (plane.joined, curves(plane)) == ((), [])


def test_the_first_pair_that_was_measured_is_drawn():
    both = {"fid": 8.0, "clip": 0.3, "fid_judge": 3.0, "attributes": 0.9, "precision": 0.6, "recall": 0.5}
    ones = contenders([entry("a", (2.0,) * 4, "lsg", both)])
    assert [(plane.x.name, plane.y.name) for plane in planes(ones)] == [("clip", "fid"), ("recall", "precision")]
    shapes = Entry(
        label="s", card=card(subject("student 1 step", 1, {"fid_judge": 3.0, "attributes": 0.9})), folder=Path()
    )
    assert [(plane.x.name, plane.y.name) for plane in planes(contenders([shapes]))] == [("attributes", "fid_judge")]


def test_unlike_references_never_share_an_axis():
    other = subject("student 1 step", 1, [score("fid", 9.0, reference_digest="e" * 64), score("clip", 0.29)])
    entries = [lsg(1.5, 8.0, 0.28), Entry(label="other", card=card(other), folder=Path())]
    found = planes(contenders(entries))
    assert [plane.y.reference_digest[0] for plane in found] == ["d", "e"]
    assert "other" not in found[0].svg
    assert "other" in found[1].svg
    assert "lsg" not in found[1].svg


def test_no_pair_no_plane():
    assert planes(contenders([Entry(label="a", card=card(subject("student", 1, {"fid": 1.0})), folder=Path())])) == ()
