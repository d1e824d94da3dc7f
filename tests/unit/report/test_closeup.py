import math

from sidlsg.report.scatter import Group, Mark, close_up


def group(kind, *places):
    return Group(kind=kind, marks=tuple(Mark(label=f"{kind}{i}", x=x, y=y) for i, (x, y) in enumerate(places)))


STUDENTS = group("student", (80, 2), (90, 4), (85, 3))
FAR = group("teacher", (0, 40), (88, 3))


def named(groups):
    return {mark.label: mark.named for one in groups for mark in one.marks}


def test_students_that_crowd_are_drawn_again_with_what_lies_among_them():
    found = close_up([STUDENTS, FAR])
    assert named(found.near) == {"student0": True, "student1": True, "student2": True, "teacher1": True}
    assert named(found.overview) == {
        "student0": False,
        "student1": False,
        "student2": False,
        "teacher0": True,
        "teacher1": False,
    }
    # x 56..544 for 0..100, y 336..30 for 0..40, and 12 around.
    assert [round(edge, 1) for edge in (found.frame.left, found.frame.right)] == [434.4, 507.2]
    assert [round(edge, 1) for edge in (found.frame.top, found.frame.bottom)] == [293.4, 332.7]


def test_one_picture_will_do_where_there_is_room_or_nothing_else():
    spread = group("student", (0, 0), (100, 40), (50, 20), (20, 20))
    assert close_up([spread, group("teacher", (0, 45))]) is None
    assert close_up([group("student", (80, 2), (90, 4), (85, 3), (86, 3))]) is None
    assert close_up([group("student", (80, 2), (90, 4)), group("teacher", (0, 40))]) is None
    assert close_up([group("student", (80, 2)), FAR]) is None
    assert close_up([]) is None


def test_one_student_among_many_is_drawn_again_with_them():
    found = close_up([group("student", (80, 2)), group("teacher", (0, 40), (88, 3), (82, 4), (79, 1))])
    assert set(named(found.near)) == {"student0", "teacher1", "teacher2", "teacher3"}


def test_what_is_not_finite_is_nowhere():
    found = close_up([STUDENTS, FAR, group("published", (math.nan, 3))])
    assert "published0" not in named(found.near)
    assert named(found.overview)["published0"]
