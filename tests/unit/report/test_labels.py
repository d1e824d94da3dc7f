from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidlsg.report.scatter import CHARACTER, GAP, Box, Label, place_labels

FRAME = Box(0, 0, 400, 300)


def test_overlap_and_area():
    assert Box(0, 0, 10, 10).overlap(Box(5, 8, 20, 20)) == 10
    assert Box(0, 0, 10, 10).overlap(Box(10, 0, 20, 10)) == 0
    assert Box(0, 0, 10, 4).area == 40


@pytest.mark.parametrize(
    ("anchor", "left"), [("start", 100), ("middle", 100 - CHARACTER), ("end", 100 - 2 * CHARACTER)]
)
def test_a_labels_box(anchor, left):
    box = Label(text="ab", x=100, y=50, anchor=anchor).box
    assert (box.left, box.right) == pytest.approx((left, left + 2 * CHARACTER))
    assert (box.top, box.bottom) == (41, 53)


def test_the_right_is_first_and_the_left_where_the_frame_ends():
    middle, edge = place_labels([(200, 150, "a label"), (395, 50, "a label")], FRAME)
    assert (middle.x, middle.anchor) == (200 + GAP, "start")
    assert (edge.x, edge.anchor) == (395 - GAP, "end")


def test_a_label_gives_way_to_a_mark_a_label_and_what_is_taken():
    first, second = place_labels([(200, 150, "a label"), (215, 150, "b")], FRAME)
    assert first.anchor == "end"
    assert second.anchor == "start"
    (over,) = place_labels([(200, 150, "a label")], FRAME, [Box(100, 149, 300, 151)])
    assert (over.x, over.anchor) == (200, "middle")


def test_a_mark_without_a_text_is_kept_clear_of():
    label, empty = place_labels([(200, 150, "a label"), (220, 150, "")], FRAME)
    assert label.anchor == "end"
    assert empty.text == ""


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=8, unique=True))
def test_with_room_nothing_overlaps_or_leaves(cells):
    spots = [(60 + 90 * x, 40 + 40 * y, "lsg κ = 1.5") for x, y in cells]
    boxes = [label.box for label in place_labels(spots, FRAME)]
    assert all(one.overlap(other) == 0 for one, other in combinations(boxes, 2))
    assert all(box.overlap(FRAME) == pytest.approx(box.area) for box in boxes)
