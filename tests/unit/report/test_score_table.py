import math
from dataclasses import replace
from pathlib import Path

from sidlsg.report import score_table as module
from sidlsg.report.contenders import Entry, contenders
from sidlsg.storage.records import Score, Scorecard, SubjectScores


def score(value, name="fid", protocol="p", n=100, higher=False, interval=None):
    return Score(
        name=name,
        value=value,
        protocol=protocol,
        n=n,
        reference_digest="r",
        higher_is_better=higher,
        interval=interval,
    )


def card(*subjects, reused=()):
    return Scorecard(
        student_sha256="s",
        teacher_sha256="t",
        package_sha256="p",
        subjects=tuple(
            SubjectScores(subject=name, steps=steps, guidance_scale=1.0, scores=tuple(scores))
            for name, steps, scores in subjects
        ),
        grids=(),
        grid_prompts=(),
        reused=reused,
        seconds=1.0,
    )


def score_table(card):
    return module.score_table(contenders([Entry(label="a", card=card, folder=Path())]))


def cells(table):
    return {one.name: [cell and (cell.value, cell.best) for cell in cells] for one, cells in table.rows}


def test_best_of_the_generated_ones_is_marked_whichever_way_a_score_runs():
    table = score_table(
        card(
            ("teacher", 20, [score(2.5), score(0.9, "accuracy", higher=True)]),
            ("student", 1, [score(3.25), score(0.95, "accuracy", higher=True)]),
            ("real images", 0, [score(1.5), score(0.99, "accuracy", higher=True)]),
        )
    )
    assert cells(table) == {
        "teacher": [("2.50", True), ("0.900", False)],
        "student": [("3.25", False), ("0.950", True)],
        "real images": [("1.50", False), ("0.990", False)],
    }
    assert [(column.name, column.higher_is_better) for column in table.columns] == [("fid", False), ("accuracy", True)]
    assert [one.kind for one, _ in table.rows] == ["student", "teacher", "real"]


def test_unlike_protocols_never_share_a_column():
    table = score_table(
        card(("a", 1, [score(2.0)]), ("b", 1, [score(1.0, n=50)]), ("c", 1, [score(0.5, protocol="q")]))
    )
    assert len(table.columns) == 3
    # Alone in its column, none is the best of anything.
    assert cells(table) == {
        "a": [("2.00", False), None, None],
        "b": [None, ("1.000", False), None],
        "c": [None, None, ("0.500", False)],
    }


def test_nan_is_never_the_best():
    table = score_table(card(("a", 1, [score(math.nan)]), ("b", 1, [score(2.0)]), ("c", 1, [score(1.5)])))
    assert cells(table) == {"a": [("not a number", False)], "b": [("2.00", False)], "c": [("1.50", True)]}


def test_distances_below_0_are_noise_and_none_is_the_best():
    table = score_table(card(("a", 1, [score(-0.02)]), ("b", 1, [score(2.0)])))
    assert not any(cells[0].best for _, cells in table.rows)


def test_nothing_but_nan():
    table = score_table(card(("a", 1, [score(math.nan)]), ("b", 1, [score(math.nan)])))
    assert cells(table) == {"a": [("not a number", False)], "b": [("not a number", False)]}


def test_a_column_has_decimals_enough_for_its_smallest_number():
    table = score_table(card(("a", 1, [score(151.25)]), ("b", 0, [score(0.0625)])))
    assert [cells[0].value for _, cells in table.rows] == ["151.250", "0.062"]


def test_reused_rows_and_intervals():
    table = score_table(
        card(("a", 1, [score(2.0, interval=(1.75, 2.5))]), ("b", 1, [score(3.0)]), reused=("b",)),
    )
    assert [one.reused for one, _ in table.rows] == [False, True]
    assert not table.has("real")
    assert table.rows[0][1][0].spread == "1.75 to 2.50"


def test_only_a_guidance_scale_above_1_is_noted():
    one = card(("a", 20, [score(2.0)]))
    guided = replace(one, subjects=(replace(one.subjects[0], guidance_scale=3.0),))
    assert score_table(one).rows[0][0].note == ""
    assert score_table(guided).rows[0][0].note == "guidance scale 3"
