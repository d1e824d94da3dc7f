import math
import re
from xml.etree import ElementTree

import pytest

from sidlsg.report.scatter import Box, Group, Mark, Quantity, scatter

X, Y = Quantity(name="clip", higher_is_better=True), Quantity(name="fid", higher_is_better=False)


def draw(*groups, **options):
    return ElementTree.fromstring(scatter("a plane", X, Y, groups, **options))


def group(*places, kind="student", joined=False, **options):
    marks = tuple(Mark(label=f"m{i}", x=x, y=y, **options) for i, (x, y) in enumerate(places))
    return Group(kind=kind, marks=marks, joined=joined)


def texts(chart, name):
    return [e.text for e in chart.iter("text") if name in e.get("class").split()]


def test_marks_lie_where_their_values_are():
    # x 56..544 for 0..100, y 336..30 for 0..50.
    chart = draw(group((0, 0), (25, 10), (100, 50)))
    assert [(e.get("cx"), e.get("cy")) for e in chart.iter("circle")] == [
        ("56.0", "336.0"),
        ("178.0", "274.8"),
        ("544.0", "30.0"),
    ]
    assert [e.get("class") for e in chart.iter("g")] == ["kind-student"] * 3
    assert sorted(texts(chart, "name")) == ["m0", "m1", "m2"]


def test_axes_say_which_way_is_better():
    assert texts(draw(group((1, 2))), "label") == ["fid ↓ lower is better", "clip ↑ higher is better"]


def test_wide_positive_ranges_are_logarithmic_and_say_so():
    chart = draw(group((0, 1), (50, 10), (100, 100)))
    assert texts(chart, "label")[0] == "fid ↓ lower is better (logarithmic)"
    assert [e.get("cy") for e in chart.iter("circle")] == ["336.0", "183.0", "30.0"]
    # An interval that goes below zero has no logarithm.
    chart = draw(group((0, 1), (100, 100), y_interval=(-1.0, 100.0)))
    assert texts(chart, "label")[0] == "fid ↓ lower is better"


def test_shares_are_never_on_a_logarithmic_axis():
    chart = draw(group((0, 0.005), (50, 0.5), (100, 0.95)))
    assert texts(chart, "label")[0] == "fid ↓ lower is better"


def test_every_kind_has_its_shape():
    chart = draw(*(group((1, 2), kind=kind) for kind in ("real", "published", "teacher", "student")))
    shapes = {e.get("class"): [c.tag for c in e if c.tag != "title"] for e in chart.iter("g")}
    assert shapes == {
        "kind-real": ["polygon"],
        "kind-published": ["polygon"],
        "kind-teacher": ["polygon"],
        "kind-student": ["circle"],
    }
    assert len({e.get("points") for e in chart.iter("polygon")}) == 3
    # Students lie on top.
    assert [e.get("class") for e in chart.iter("g")][-1] == "kind-student"


def test_a_line_joins_marks_in_their_order():
    chart = draw(group((0, 0), (100, 50), (25, 10), joined=True), group((50, 20), (60, 20), kind="teacher"))
    (line,) = chart.iter("polyline")
    assert line.get("points") == "56.0,336.0 544.0,30.0 178.0,274.8"
    assert line.get("class") == "curve curve-0"
    assert list(draw(group((0, 0), joined=True)).iter("polyline")) == []


def test_intervals_are_bars_of_their_length():
    chart = draw(group((0, 0)), group((50, 25), x_interval=(25.0, 100.0), y_interval=(10.0, 50.0)))
    bars = [e for e in chart.iter("rect") if e.get("class") == "bar"]
    assert [[float(bar.get(name)) for name in ("x", "y", "width", "height")] for bar in bars] == [
        pytest.approx([178, 182.5, 366, 1], abs=0.06),
        pytest.approx([299.5, 30, 1, 244.8], abs=0.06),
    ]


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_what_is_not_finite_is_left_out(hole):
    svg = scatter("t", X, Y, [group((1, 2), (hole, 3), (2, hole), x_interval=(hole, 1.0))])
    assert len(list(ElementTree.fromstring(svg).iter("circle"))) == 1
    assert not re.search(r"\b(nan|inf)\b", svg)
    assert "No two finite values" in scatter("t", X, Y, [group((hole, 1))])


def test_a_mark_may_be_told_but_not_named():
    chart = draw(group((1, 2), named=False))
    assert texts(chart, "name") == []
    assert [e.text for e in chart.iter("title")] == ["m0: 1, 2"]


def test_a_frame():
    (frame,) = [e for e in draw(group((1, 2)), frame=Box(60, 40, 100, 90)).iter("rect") if e.get("class") == "frame"]
    assert [frame.get(name) for name in ("x", "y", "width", "height")] == ["60.0", "40.0", "40.0", "50.0"]


def test_labels_are_escaped():
    mark = Mark(label='<b> & "q"', x=1, y=2)
    svg = scatter("<i>", Quantity(name="<x>", higher_is_better=True), Y, [Group(kind="student", marks=(mark,))])
    assert not re.search("<(b|i|x)>", svg)
    assert texts(ElementTree.fromstring(svg), "name") == ['<b> & "q"']
