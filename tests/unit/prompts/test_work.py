from pathlib import Path

import polars as pl
import pytest

from sidlsg.prompts.work import NothingLeftError, Task, Work, work_folder
from sidlsg.runtime.errors import ContentError, InputError

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


def test_a_task_is_done_once_it_is_marked(work):
    work.put("one", {0: table((1, "x"))})
    assert work.done("scan") == {}
    work.finish(Task("scan", 4), {"rows": 1})
    assert work.done("scan") == {4: {"rows": 1}}
    assert work.done("unique") == {}


def test_remains_of_a_killed_writer_are_not_read(work, tmp_path):
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


KEY, OTHER = "a" * 64, "b" * 64


def start(output, key=KEY, work="", error=None, done=False):
    with work_folder(str(output), work, key) as place:
        (Path(place) / "some").write_text("work")
        if done:
            (Path(place) / "done").mkdir(exist_ok=True)
        if error:
            raise error
        return place


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_that_ends_well_leaves_nothing(tmp_path):
    start(tmp_path / "out")
    assert left(tmp_path) == []


def test_work_that_was_stopped_stays_for_the_same_run_alone(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "out", error=KeyboardInterrupt())
    assert left(tmp_path) == [f".out.{KEY[:16]}.work"]
    start(tmp_path / "other")
    assert left(tmp_path) == [f".out.{KEY[:16]}.work"]
    start(tmp_path / "out", OTHER)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "done", "stays"),
    [
        (InputError("bad file"), True, True),
        (InputError("bad file"), False, False),
        (NothingLeftError("none"), True, False),
    ],
)
def test_after_an_error_only_resumable_work_stays(tmp_path, error, done, stays):
    with pytest.raises(InputError):
        start(tmp_path / "out", error=error, done=done)
    assert bool(left(tmp_path)) is stays


def test_a_given_work_folder_gets_a_subfolder(tmp_path):
    place = start(tmp_path / "out", work=str(tmp_path / "scratch"))
    assert place == str(tmp_path / "scratch" / KEY[:16])
    assert left(tmp_path / "scratch") == []


def test_two_at_once_are_kept_apart(tmp_path):
    with work_folder(str(tmp_path / "out"), "", KEY):
        for key in (KEY, OTHER):
            with (
                pytest.raises(InputError, match="another process curates for"),
                work_folder(str(tmp_path / "out"), "", key),
            ):
                pass


def test_an_output_on_s3_needs_a_work_folder():
    with pytest.raises(InputError, match="--work must name a folder or prefix"), work_folder("s3://b/p", "", KEY):
        pass
