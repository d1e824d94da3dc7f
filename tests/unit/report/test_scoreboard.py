from pathlib import Path

import pytest

from sidlsg.distil.recipes import published_results
from sidlsg.report.contenders import Entry, contenders
from sidlsg.report.scoreboard import plots, scoreboard
from sidlsg.storage.records import Extreme, FileRef
from unit.report.cards import card, score, subject


def entry(label, *subjects, **changes):
    return Entry(label=label, card=card(*subjects, **changes), folder=Path(label))


def student(fid, clip=0.3, **changes):
    return subject("student 1 step", 1, [score("fid", fid, **changes), score("clip", clip)])


def rows(board):
    return {one.name: [cell and cell.value for cell in cells] for one, cells in board.table.rows}


def test_published_rows_stand_below_and_are_never_the_best():
    board = scoreboard([entry("a", student(20.0)), entry("b", student(18.0))], published_results())
    assert list(rows(board))[:3] == ["a", "b", "sd15, 8.8 M"]
    assert rows(board)["sd15, 18.8 M"] == ["8.15", "0.304"]
    best = {one.name: cells[0].best for one, cells in board.table.rows}
    assert [name for name, is_best in best.items() if is_best] == ["b"]
    assert board.table.has("published")
    assert board.sources == ("arXiv 2406.01561, zero-shot COCO-2014",)
    assert ">published</text>" in board.plots[0].svg


def test_the_shapes_domain_shows_no_published_row():
    card = subject("student 1 step", 1, {"fid_judge": 3.0, "attributes": 0.9})
    board = scoreboard([entry("a", card)], published_results())
    assert list(rows(board)) == ["student 1 step"]
    assert (board.table.has("published"), board.sources) == (False, ())


def test_unlike_references_are_columns_of_their_own_that_say_so():
    other = entry("b", student(18.0, reference_digest="e" * 64))
    board = scoreboard([entry("a", student(20.0)), other], published_results())
    assert rows(board)["a"] == ["20.00", "0.300", None]
    assert rows(board)["b"] == [None, "0.300", "18.00"]
    found = [board.table.distinction(column) for column in board.table.columns]
    assert found == ["fid/coco2014-30k-clean, 30,000, dddddddd", "", "fid/coco2014-30k-clean, 30,000, eeeeeeee"]
    # Whose reference the published distances have is not known; the text fit's is the only one.
    assert rows(board)["sd15, 18.8 M"] == [None, "0.304", None]


def test_best_and_worst_by_measure():
    def extreme(prompt, value, best):
        picture = FileRef(path=f"s3://b/{prompt}.png", sha256="0" * 64)
        return Extreme(prompt=prompt, seed=3, value=value, measure="cosine", best=best, picture=picture)

    extremes = (extreme("p", 0.4, True), extreme("q", 0.39, True), extreme("r", 0.0625, False))
    a = entry("a", student(20.0), extremes=extremes, strategy="lsg", kappas=(2.0,) * 4)
    (one,) = scoreboard([a, entry("b", student(18.0))], published_results()).extremes
    assert (one.name, one.measure) == ("lsg κ = 2", "cosine")
    assert [(each.prompt, each.value, image.path) for each, image in one.best] == [
        ("p", 0.4, "s3://b/p.png"),
        ("q", 0.39, "s3://b/q.png"),
    ]
    assert [each.prompt for each, _ in one.worst] == ["r"]


TEACHER = subject("teacher 20 steps", 20, {"fid": 14.0, "clip": 0.31})


def guided(strategy, kappa, fid, clip, **changes):
    kappas = (kappa,) * 4 if strategy == "lsg" else (1.0, 1.0, 1.0, kappa)
    scores = subject("student 1 step", 1, {"fid": fid, "clip": clip})
    return entry(f"{strategy} {kappa}", scores, TEACHER, strategy=strategy, kappas=kappas, **changes)


@pytest.fixture
def curves(monkeypatch):
    """The curves of each plot, as labels by their label."""
    drawn = []

    def plotted(*arguments):
        *_, curves = arguments
        drawn.append([(label, [point.label for point in line]) for label, line in curves])
        return ""

    monkeypatch.setattr("sidlsg.report.scoreboard.scatter_plot", plotted)
    return drawn


def test_each_strategy_has_a_curve_in_the_order_of_kappa(curves):
    ones = [guided("lsg", 3.0, 13.0, 0.3), guided("lsg", 1.5, 8.0, 0.28), guided("long", 3.0, 12.0, 0.27)]
    plots(contenders([*ones, guided("lsg", 2.0, 9.0, 0.29), guided("long", 2.0, 11.0, 0.26)]))
    assert curves == [
        [
            ("lsg, in order of κ", ["lsg κ = 1.5", "lsg κ = 2", "lsg κ = 3"]),
            ("long, in order of κ", ["long κ4 = 2", "long κ4 = 3"]),
        ]
    ]


def test_a_curve_joins_students_that_differ_in_kappa_alone(curves):
    def swept(text, kappa, fid, **values):
        scores = subject("student 1 step", 1, {"fid": fid, "clip": 0.3})
        values = {"lr": 1e-4, "strategy": "lsg", "scales": {"kappa": kappa}, **values}
        return entry(text, scores, strategy="lsg", kappas=(kappa,) * 4, recipe_values=values)

    plain = [swept(f"lsg kappa={kappa}", kappa, 9.0) for kappa in (3.0, 1.5)]
    adapted = [swept(f"lsg kappa={kappa} adapter={{}}", kappa, 8.0, adapter={"rank": 8}) for kappa in (1.5, 2.0)]
    lone = swept("lsg kappa=2.0 lr=0.1", 2.0, 7.0, lr=0.1)
    plots(contenders([*plain, *adapted, lone]))
    assert curves == [
        [
            ("lsg, in order of κ", ["lsg kappa=1.5", "lsg kappa=3.0"]),
            ("lsg adapter={}, in order of κ", ["lsg kappa=1.5 adapter={}", "lsg kappa=2.0 adapter={}"]),
        ]
    ]


def test_students_of_different_teachers_are_not_joined(curves):
    plots(contenders([guided("lsg", 1.5, 8.0, 0.28), guided("lsg", 2.0, 9.0, 0.29, teacher_sha256="b" * 64)]))
    assert curves == [[]]


def axes(*entries):
    return [(plot.x.name, plot.y.name) for plot in plots(contenders(entries))]


def test_the_first_pair_that_was_measured_is_plotted():
    both = {"fid": 8.0, "clip": 0.3, "fid_judge": 3.0, "attributes": 0.9, "precision": 0.6, "recall": 0.5}
    assert axes(entry("a", subject("student 1 step", 1, both))) == [("clip", "fid"), ("recall", "precision")]
    shapes = subject("student 1 step", 1, {"fid_judge": 3.0, "attributes": 0.9})
    assert axes(entry("s", shapes)) == [("attributes", "fid_judge")]
    assert axes(entry("a", subject("student", 1, {"fid": 1.0}))) == []


def test_scores_of_different_references_never_share_an_axis():
    other = subject("student 1 step", 1, [score("fid", 9.0, reference_digest="e" * 64), score("clip", 0.29)])
    found = plots(contenders([guided("lsg", 1.5, 8.0, 0.28), entry("other", other)]))
    assert [plot.y.reference_digest[0] for plot in found] == ["d", "e"]
    assert ">other</text>" not in found[0].svg
    assert ">other</text>" in found[1].svg
    assert "lsg" not in found[1].svg
