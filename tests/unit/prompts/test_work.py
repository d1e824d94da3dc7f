import polars as pl
import pytest

from sidlsg.prompts.work import Task, Work
from sidlsg.runtime.errors import ContentError

SCHEMA = {"a": pl.UInt64, "b": pl.String}


def table(*rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@pytest.fixture
def work(tmp_path):
    return Work(str(tmp_path / "work"))


def test_tables_come_back_by_number_below_each_other(work):
    work.put("one", {3: table((1, "x")), 5: table((2, "y"))})
    work.put("two", {5: table((3, "z"))})
    assert work.get(["one", "two"], 5, SCHEMA).rows() == [(2, "y"), (3, "z")]
    assert work.get(["two", "one"], 5, SCHEMA).rows() == [(3, "z"), (2, "y")]
    assert work.get(["one", "two"], 3, SCHEMA).rows() == [(1, "x")]


def test_a_number_without_rows_is_an_empty_table(work):
    work.put("one", {})
    found = work.get(["one"], 7, SCHEMA)
    assert (found.height, dict(found.schema)) == (0, SCHEMA)


def test_a_file_that_is_not_there_is_an_error_not_an_empty_table(work):
    with pytest.raises(ContentError, match=r"there is no one\.tables"):
        work.get(["one"], 0, SCHEMA)


def test_a_task_is_done_once_it_says_so(work):
    work.put("one", {0: table((1, "x"))})
    assert work.done("scan") == {}
    work.finish(Task("scan", 4), {"rows": 1})
    assert work.done("scan") == {4: {"rows": 1}}
    assert work.done("unique") == {}


def test_what_a_killed_writer_left_is_not_read(work, tmp_path):
    work.finish(Task("scan", 0), {})
    (tmp_path / "work/done/scan/.000001.json.abcd1234").write_text("{")
    assert list(work.done("scan")) == [0]


def test_deleting_a_prefix_leaves_the_rest(work):
    work.put("scan/000000/0000", {})
    work.put("unique/0000", {})
    work.delete("scan/")
    with pytest.raises(ContentError):
        work.get(["scan/000000/0000"], 0, SCHEMA)
    assert work.get(["unique/0000"], 0, SCHEMA).is_empty()
