from pathlib import Path

import pytest

from sidlsg.prompts.work import NothingLeftError, work_place
from sidlsg.runtime.errors import InputError

KEY, OTHER = "a" * 64, "b" * 64


def start(output, key=KEY, work="", error=None, done=False):
    with work_place(str(output), work, key) as place:
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
def test_after_an_error_only_work_that_can_be_gone_on_with_stays(tmp_path, error, done, stays):
    with pytest.raises(InputError):
        start(tmp_path / "out", error=error, done=done)
    assert bool(left(tmp_path)) is stays


def test_a_place_of_the_users_gets_a_folder_of_its_own(tmp_path):
    place = start(tmp_path / "out", work=str(tmp_path / "scratch"))
    assert place == str(tmp_path / "scratch" / KEY[:16])
    assert left(tmp_path / "scratch") == []


def test_two_at_once_are_kept_apart(tmp_path):
    with work_place(str(tmp_path / "out"), "", KEY):
        for key in (KEY, OTHER):
            with (
                pytest.raises(InputError, match="another process curates for"),
                work_place(str(tmp_path / "out"), "", key),
            ):
                pass


def test_an_output_on_s3_needs_a_place_for_work():
    with pytest.raises(InputError, match="--work must name a folder or prefix"), work_place("s3://b/p", "", KEY):
        pass
