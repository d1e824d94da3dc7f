from pathlib import Path

from sidlsg.report.contenders import Entry, contenders
from sidlsg.report.score_table import style_tables
from sidlsg.storage.records import StyleMean
from unit.report.cards import card, score, subject


def styles(protocol="hpsv2/v2.0", **means):
    return tuple(StyleMean(protocol=protocol, style=name, mean=mean, deviation=0.125) for name, mean in means.items())


def tables(*subjects):
    return style_tables(contenders([Entry(label="a", card=card(*subjects), folder=Path())]))


def cells(table):
    return {one.name: [cell and (cell.value, cell.spread, cell.best) for cell in cells] for one, cells in table.rows}


def test_means_with_deviations_then_the_average():
    (table,) = tables(
        subject("student 1 step", 1, {"hpsv2_v2_0": 27.5}, styles=styles(anime=28.0, photo=27.0)),
        subject("teacher 20 steps", 20, {"hpsv2_v2_0": 27.25}, styles=styles(anime=26.5)),
        subject("teacher 1 step", 1, {"fid": 9.0}),
    )
    assert (table.protocol, table.styles, table.average.name) == ("hpsv2/v2.0", ("anime", "photo"), "hpsv2_v2_0")
    assert cells(table) == {
        "student 1 step": [("28.00", "± 0.12", True), ("27.00", "± 0.12", False), ("27.50", "", True)],
        "teacher 20 steps": [("26.50", "± 0.12", False), None, ("27.25", "", False)],
    }


def test_unlike_versions_and_references_have_tables_of_their_own():
    found = tables(
        subject("student a", 1, {"hpsv2_v2_0": 27.5}, styles=styles(anime=28.0)),
        subject("student b", 1, [score("hpsv2_v2_0", 27.0, reference_digest="e" * 64)], styles=styles(anime=27.0)),
        subject("student c", 1, {}, styles=styles("hpsv2/v2.1", anime=30.0)),
    )
    assert [list(cells(table)) for table in found] == [["student a"], ["student b"], ["student c"]]
    assert found[2].average is None
    assert cells(found[2]) == {"student c": [("30.00", "± 0.12", False)]}


def test_none_measured_no_table():
    assert tables(subject("student", 1, {"hpsv2_v2_0": 27.5})) == ()
