import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.stages.encode import work_folder
from sidlsg.storage.files import WORK_MARK

KEY, OTHER = "a" * 64, "b" * 64


class StopError(Exception):
    pass


def leave(output: Path, key: str, name: str) -> None:
    """Work that is interrupted after one file."""
    with pytest.raises(StopError), work_folder(output, key, "a") as folder:
        (folder / name).write_text(name)
        raise StopError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != WORK_MARK)


def test_a_block_that_ends_well_makes_the_output_and_leaves_nothing_else(tmp_path: Path) -> None:
    with work_folder(tmp_path / "deep" / "out", KEY, "a") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert names(tmp_path / "deep") == ["out"]
    assert (tmp_path / "deep" / "out" / "a").read_text() == "1"


def test_work_that_was_left_is_found_again(tmp_path: Path) -> None:
    leave(tmp_path / "out", KEY, "a")
    assert not (tmp_path / "out").exists()
    with work_folder(tmp_path / "out", KEY, "a") as folder:
        assert names(folder) == ["a"]
    assert names(tmp_path) == ["out"]


def test_a_file_that_was_not_finished_is_deleted(tmp_path: Path) -> None:
    leave(tmp_path / "out", KEY, "a")
    leave(tmp_path / "out", KEY, ".b.safetensors.x8z1")
    with pytest.raises(StopError), work_folder(tmp_path / "out", KEY, "a") as folder:
        writers = Path(tempfile.mkdtemp(dir=folder, prefix=".c.safetensors."))
        (writers / "new").touch()
        raise StopError
    with work_folder(tmp_path / "out", KEY, "a") as folder:
        assert names(folder) == ["a"]


def test_work_of_another_key_is_deleted_and_that_of_another_output_is_not(tmp_path: Path) -> None:
    leave(tmp_path / "out", OTHER, "a")
    leave(tmp_path / "out.2", OTHER, "a")
    with work_folder(tmp_path / "out", KEY, "a") as folder:
        assert names(folder) == []
    assert names(tmp_path) == [f".out.2.{OTHER[:16]}.work", "out"]


def test_an_earlier_output_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    for content in ("1", "2"):
        with work_folder(tmp_path / "out", KEY, "a") as folder:
            (folder / "a").write_text(content)
            assert content == "1" or (tmp_path / "out" / "a").read_text() == "1"
    assert (tmp_path / "out" / "a").read_text() == "2"
    leave(tmp_path / "out", KEY, "b")
    assert names(tmp_path / "out") == ["a"]


def test_a_folder_that_a_user_gave_such_a_name_stays(tmp_path: Path) -> None:
    users = tmp_path / f".out.{OTHER[:16]}.work"
    users.mkdir()
    (users / "notes").write_text("mine")
    with work_folder(tmp_path / "out", KEY, "a") as folder:
        (folder / "a").touch()
    assert names(tmp_path) == [users.name, "out"]


def test_an_output_of_another_kind_is_refused_before_work_begins(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(InputError, match="holds something else"), work_folder(tmp_path / "out", KEY, "a"):
        pass
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_two_processes_on_one_output_are_refused(tmp_path: Path, key: str) -> None:
    leave(tmp_path / "out", KEY, "a")
    handle = os.open(tmp_path / f".out.{KEY[:16]}.work", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with (
            pytest.raises(InputError, match=r"another process is writing .*/out; wait"),
            work_folder(tmp_path / "out", key, "a"),
        ):
            pass
    finally:
        os.close(handle)
    assert names(tmp_path / f".out.{KEY[:16]}.work") == ["a"]
