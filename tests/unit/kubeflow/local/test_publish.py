import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sidlsg.kubeflow.local.execution import prune, publish_folder
from sidlsg.runtime.errors import InputError


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    old = fill(tmp_path / "old", {"student.json": "1", "old.txt": "x"})
    new = fill(tmp_path / "new", {"student.json": "2", "unet/a.txt": "y"})
    target = tmp_path / "run" / "student"
    publish_folder(old, target, "student.json")
    publish_folder(new, target, "student.json")
    assert read(target) == {"student.json": "2", "unet/a.txt": "y"}
    assert [p.name for p in target.parent.iterdir()] == ["student"]
    assert read(new) == read(target)


def test_files_take_no_space_twice(tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"student.json": "1"})
    publish_folder(source, tmp_path / "student", "student.json")
    assert (tmp_path / "student/student.json").samefile(source / "student.json")


def test_files_are_copied_where_links_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    source = fill(tmp_path / "source", {"student.json": "1", "a/b.txt": "c"})
    publish_folder(source, tmp_path / "student", "student.json")
    assert read(tmp_path / "student") == read(source)


def test_something_else_is_not_replaced(tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"student.json": "1"})
    foreign = fill(tmp_path / "student", {"thesis.txt": "mine"})
    with pytest.raises(InputError, match="holds something else"):
        publish_folder(source, foreign, "student.json")
    assert read(foreign) == {"thesis.txt": "mine"}


@pytest.mark.parametrize("name", ["root", "größe"])
def test_pruning_keeps_what_the_cache_speaks_of(tmp_path: Path, name: str) -> None:
    root, cache = tmp_path / name, tmp_path / "cache"
    fill(root / "run1", {"curate/set/a": "1", "gate/b": "2"})
    fill(root / "run2", {"curate/set/a": "3"})
    entry = {"prompt_set": {"uri": str(root / "run1/curate/set")}, "seconds": 1.0}
    fill(cache, {"k.json": json.dumps(entry)})
    prune(root, cache)
    assert read(root) == {"run1/curate/set/a": "1"}
    assert not (root / "run2").exists()
