from pathlib import Path

from sidlsg.distil.recipes import published_results
from sidlsg.report.contenders import Entry
from sidlsg.report.scoreboard import scoreboard
from sidlsg.storage.records import Extreme, FileRef
from unit.report.cards import card, score, subject


def entry(label, *subjects, **changes):
    return Entry(label=label, card=card(*subjects, **changes), folder=Path(label))


def student(fid, clip=0.3, **changes):
    return subject("student 1 step", 1, [score("fid", fid, **changes), score("clip", clip)])


def rows(board):
    return {row.subject: [cell and cell.value for cell in row.cells] for row in board.table.rows}


def test_published_rows_stand_below_and_are_never_the_best():
    board = scoreboard([entry("a", student(20.0)), entry("b", student(18.0))], published_results())
    assert list(rows(board))[:3] == ["a", "b", "sd15, 8.8 M"]
    assert rows(board)["sd15, 18.8 M"] == ["8.15", "0.304"]
    best = {row.subject: row.cells[0].best for row in board.table.rows}
    assert [name for name, is_best in best.items() if is_best] == ["b"]
    assert board.table.has_published
    assert board.sources == ("arXiv 2406.01561, zero-shot COCO-2014",)
    assert "published" in board.planes[0].kinds


def test_the_shapes_domain_shows_no_published_row():
    card = subject("student 1 step", 1, {"fid_judge": 3.0, "attributes": 0.9})
    board = scoreboard([entry("a", card)], published_results())
    assert list(rows(board)) == ["student 1 step"]
    assert (board.table.has_published, board.sources) == (False, ())


def test_unlike_references_are_columns_of_their_own_that_say_so():
    other = entry("b", student(18.0, reference_digest="e" * 64))
    board = scoreboard([entry("a", student(20.0)), other], published_results())
    assert rows(board)["a"] == ["20.00", "0.300", None]
    assert rows(board)["b"] == [None, "0.300", "18.00"]
    told = [board.table.told(column) for column in board.table.columns]
    assert told == ["fid/coco2014-30k-clean, 30,000, dddddddd", "", "fid/coco2014-30k-clean, 30,000, eeeeeeee"]
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
    assert [(each.prompt, each.value, each.seed) for each in one.best] == [("p", "0.400", 3), ("q", "0.390", 3)]
    assert [(each.prompt, each.value) for each in one.worst] == [("r", "0.062")]
