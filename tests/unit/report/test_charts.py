"""Charts as a reader of the SVG sees them: their texts, their lines, and what a page may not load."""

import math
import re
from xml.etree import ElementTree

import pytest

from sidlsg.report.charts import BLUE, Point, line_chart, scatter_plot


def parsed(svg):
    return ElementTree.fromstring(svg)


def texts(svg):
    return [element.text for element in parsed(svg).iter("text")]


def lines(svg):
    """The points of each blue line; y grows downwards."""
    paths = [path for path in parsed(svg).iter("path") if f"stroke: {BLUE}" in path.get("style", "")]
    steps = [re.findall(r"([ML]) (\S+) (\S+)", path.get("d")) for path in paths if path.get("clip-path")]
    return [[(kind, float(x), float(y)) for kind, x, y in each] for each in steps]


def chart(*points, **options):
    return line_chart("a chart", "loss", {"loss": points}, **options)


def test_a_line_rises_with_its_values():
    (line,) = lines(chart((0, 0), (50, 10), (100, 40)))
    (_, left, low), (_, middle, between), (_, right, high) = line
    assert middle == pytest.approx((left + right) / 2)
    assert between == pytest.approx(low + (high - low) / 4)
    assert high < low


def test_wide_positive_ranges_are_logarithmic_and_labelled_so():
    svg = chart((0, 1), (50, 10), (100, 100))
    assert "loss (logarithmic)" in texts(svg)
    (_, _, low), (_, _, middle), (_, _, high) = lines(svg)[0]
    assert middle == pytest.approx((low + high) / 2)
    assert "loss" in texts(chart((0, -1), (100, 100)))


def test_rates_start_at_zero():
    svg = chart((0, 20), (100, 40), from_zero=True)
    assert texts(svg).count("0") == 2
    assert "loss" in texts(chart((0, 1), (100, 100), from_zero=True))


@pytest.mark.parametrize("gap", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_make_a_gap(gap):
    svg = chart((0, 0), (25, 10), (50, gap), (75, 30), (100, 40))
    assert [kind for kind, _, _ in lines(svg)[0]] == ["M", "L", "M", "L"]
    assert not re.search(r"\b(nan|inf)\b", svg, re.IGNORECASE)


def test_a_point_between_gaps_has_a_marker():
    def markers(svg):
        return len([use for use in parsed(svg).iter("use") if BLUE in use.get("style")])

    assert markers(chart((0, 0), (25, math.nan), (50, 40), (75, math.nan), (100, 20))) == 3
    assert markers(chart((0, 0), (25, 10), (50, 40), (75, 5), (100, 20))) == 0


def test_nothing_finite_is_reported():
    assert "No finite value" in chart((0, math.nan))
    assert "No finite value" in chart()
    assert "No two finite values" in scatter_plot(
        "t", "x", "y", [Point(label="a", kind="student", x=math.nan, y=1)], []
    )


def test_several_lines_have_a_legend():
    points = ((0, 1), (1, 2))
    assert {"a", "b"} <= set(texts(line_chart("t", "loss", {"a": points, "b": points})))
    assert "a" not in texts(line_chart("t", "loss", {"a": points}))


BAD = '<i> & "q" $x^2$ \\1'


@pytest.mark.parametrize(
    "svg",
    [
        line_chart(BAD, BAD, {"a": ((0, 1), (1, 2)), BAD: ((0, 1), (1, 2))}),
        scatter_plot(BAD, BAD, "y", [Point(label=BAD, kind="student", x=1, y=2)], []),
    ],
)
def test_labels_are_literal_text_and_nothing_is_loaded(svg):
    assert "<i>" not in svg
    assert parsed(svg).get("aria-label") == BAD
    assert texts(svg).count(BAD) == 2
    assert "http" not in svg
    assert set(re.findall(r'(?:href="|url\()(.)', svg)) == {"#"}


def points(kind, *places, **options):
    return [Point(label=f"{kind} {x:g} {y:g}", kind=kind, x=x, y=y, **options) for x, y in places]


def plot(*ones, curves=()):
    return scatter_plot("t", "clip ↑", "fid ↓", ones, curves)


def test_every_point_is_labelled_and_every_kind_is_in_the_legend():
    kinds = ("student", "teacher", "published", "real")
    svg = plot(*(one for i, kind in enumerate(kinds) for one in points(kind, (i, i))))
    assert {"student", "teacher", "published", "real images", "student 0 0", "real 3 3"} <= set(texts(svg))


def test_distances_may_be_logarithmic_and_shares_are_not():
    assert "fid ↓ (logarithmic)" in texts(plot(*points("student", (0, 1), (50, 10), (100, 100))))
    assert "fid ↓" in texts(plot(*points("student", (0, 0.005), (50, 0.5), (100, 0.95))))
    # An interval that goes below zero has no logarithm.
    assert "fid ↓" in texts(plot(*points("student", (0, 1), (100, 100), y_interval=(-1.0, 100.0))))


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_points_that_are_not_finite_are_not_drawn(hole):
    svg = plot(*points("student", (1, 2), (hole, 3), (2, hole), x_interval=(hole, 1.0)))
    assert [text for text in texts(svg) if text.startswith("student ")] == ["student 1 2"]


def test_intervals_are_bars():
    (one,) = points("student", (50, 25), x_interval=(25.0, 100.0), y_interval=(10.0, 50.0))
    horizontal, vertical = lines(plot(one))
    assert horizontal[0][2] == horizontal[1][2]
    assert vertical[0][1] == vertical[1][1]


STUDENTS = points("student", (80, 2), (90, 4), (85, 3))
OTHERS = points("teacher", (0, 40), (88, 3))


def test_crowded_students_have_a_close_up_with_their_neighbours_where_each_is_labelled_once():
    svg = plot(*STUDENTS, *OTHERS, curves=[("by κ", STUDENTS)])
    assert "close-up: fid ↓" in texts(svg)
    labels = [text for text in texts(svg) if text in {one.label for one in (*STUDENTS, *OTHERS)}]
    assert sorted(labels) == sorted(one.label for one in (*STUDENTS, *OTHERS))


@pytest.mark.parametrize(
    "ones",
    [
        [*points("student", (0, 0), (100, 40), (50, 20), (20, 20)), *points("teacher", (0, 45))],
        points("student", (80, 2), (90, 4), (85, 3), (86, 3)),
        [*points("student", (80, 2), (90, 4)), *points("teacher", (0, 40))],
        points("teacher", (80, 2), (90, 4), (85, 3), (86, 3), (0, 40)),
    ],
)
def test_there_is_no_close_up_of_everything_or_of_a_few(ones):
    assert "close-up: fid ↓" not in texts(plot(*ones))


def test_labels_of_neighbours_do_not_overlap():
    svg = plot(*points("student", (1, 1), (1, 1.01), (1.01, 1)), *points("teacher", (0, 0), (2, 2)))
    found = [text for text in parsed(svg).iter("text") if text.text.startswith("student ")]
    assert len({(text.get("x"), text.get("y")) for text in found}) == 3
