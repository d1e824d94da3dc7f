import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidlsg.report.charts import Axis, Series, fine_log_ticks, line_chart, linear_ticks, log_ticks, runs, tick_text


def draw(*points, label="loss", **options):
    return ElementTree.fromstring(
        line_chart("a chart", "images seen", "unit", [Series(label=label, points=points)], **options)
    )


def coordinates(chart, name="line-0"):
    """Of each stretch of a line."""
    lines = [e for e in chart.iter("polyline") if e.get("class") == name]
    return [[tuple(map(float, place.split(","))) for place in e.get("points").split()] for e in lines]


def texts(chart, name):
    return [e.text for e in chart.iter("text") if e.get("class") == name]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, (0, 50, 100)),
        (0, 40, (0, 10, 20, 30, 40)),
        (-3, 13, (-5, 0, 5, 10, 15)),
        (0, 0.3, (0, 0.1, 0.2, 0.3)),
        (12_800, 12_800, (11_000, 12_000, 13_000, 14_000, 15_000)),
        (0, 0, (-1, -0.5, 0, 0.5, 1)),
    ],
)
def test_linear_ticks_are_round_and_enclose(low, high, ticks):
    assert linear_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_linear_ticks_always_enclose_with_few(low, width):
    ticks = linear_ticks(low, low + width)
    slack = 1e-6 * (abs(low) + width)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (12, 1800, (10, 100, 1000, 10_000)),
        (0.01, 1000, (0.01, 0.1, 1, 10, 100, 1000)),
        (1, 1e9, (1, 100, 1e4, 1e6, 1e8, 1e10)),
    ],
)
def test_log_ticks_are_powers_of_ten(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (2.5, 151, (2, 5, 10, 20, 50, 100, 200)),
        (1, 50, (1, 2, 5, 10, 20, 50)),
        (0.1, 30_000, (0.1, 10, 1000, 100_000)),
    ],
)
def test_fine_log_ticks_enclose_tightly(low, high, ticks):
    assert fine_log_ticks(low, high) == pytest.approx(ticks)


def test_tick_text():
    assert [tick_text(v) for v in (0, 0.25, -10, 2000, 12_500, 3e6, 1e9)] == [
        "0",
        "0.25",
        "−10",
        "2k",
        "12.5k",
        "3M",
        "1G",
    ]


def test_axis_places():
    assert Axis(ticks=(0, 5, 10), start=100, end=300).place(2.5) == 150
    assert Axis(ticks=(1, 10, 100), start=180, end=20, logarithmic=True).place(10) == pytest.approx(100)


def test_coordinates_of_a_known_series():
    # The plot spans x 56..428 for 0..100 images and y 180..28 for 0..40.
    chart = draw((0, 0), (25, 10), (50, 40), (100, 20))
    assert coordinates(chart) == [[(56.0, 180.0), (149.0, 142.0), (242.0, 28.0), (428.0, 104.0)]]
    assert texts(chart, "tick") == ["0", "10", "20", "30", "40", "0", "50", "100"]
    assert texts(chart, "label") == ["unit", "images seen"]


def test_wide_positive_ranges_are_logarithmic_and_say_so():
    chart = draw((0, 1), (50, 10), (100, 100))
    assert texts(chart, "label")[0] == "unit (logarithmic)"
    # One decade is half the height: 180, 104, 28.
    assert [y for _, y in coordinates(chart)[0]] == [180.0, 104.0, 28.0]
    assert texts(draw((0, -1), (100, 100)), "label")[0] == "unit"


def test_rates_start_at_zero():
    chart = draw((0, 20), (100, 40), from_zero=True)
    assert texts(chart, "tick")[0] == "0"
    assert coordinates(chart) == [[(56.0, 104.0), (428.0, 28.0)]]


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_make_a_gap(hole):
    chart = draw((0, 0), (25, 10), (50, hole), (75, 30), (100, 40))
    assert coordinates(chart) == [[(56.0, 180.0), (149.0, 142.0)], [(335.0, 66.0), (428.0, 28.0)]]


def test_no_coordinate_is_ever_nan():
    chart = line_chart("t", "x", "y", [Series(label="", points=((0, math.nan), (1, 2.0), (2, math.nan)))])
    assert not re.search(r"nan|inf", chart)


def test_a_lone_point_is_a_dot():
    chart = draw((0, 0), (25, math.nan), (50, 40), (75, math.nan), (100, 20))
    dots = [(float(e.get("cx")), float(e.get("cy"))) for e in chart.iter("circle")]
    assert dots == [(56.0, 180.0), (242.0, 28.0), (428.0, 104.0)]


def test_nothing_finite_is_said():
    assert "No finite value" in line_chart("t", "x", "y", [Series(label="", points=((0, math.nan),))])
    assert "No finite value" in line_chart("t", "x", "y", [Series(label="", points=())])


def test_lines_share_their_axes():
    series = [Series(label="a", points=((0, 0), (100, 40))), Series(label="b", points=((0, 20), (100, 20)))]
    chart = ElementTree.fromstring(line_chart("t", "x", "y", series))
    assert coordinates(chart, "line-0") == [[(56.0, 180.0), (428.0, 28.0)]]
    assert coordinates(chart, "line-1") == [[(56.0, 104.0), (428.0, 104.0)]]


def test_labels_are_escaped():
    svg = line_chart('<i> & "q"', "<x>", "<y>", [Series(label="", points=((0, 1), (1, 2)))])
    assert "<i>" not in svg
    assert ElementTree.fromstring(svg).get("aria-label") == '<i> & "q"'


def test_runs_split_at_gaps():
    nan = math.nan
    assert runs([(0, nan), (1, 1), (2, 2), (3, nan), (4, nan), (5, 5)]) == [[(1, 1), (2, 2)], [(5, 5)]]
