"""A folder as a store: what a killed or failed writer leaves, and places that are none. What every store does is in
tests/services."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forked import run
from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import open_store

KILLED = """
import os, signal, sys
from pathlib import Path
from sidlsg.storage import files
from sidlsg.storage.uri import open_store
# The copy is complete and has not yet taken its place.
files.require_digest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
open_store(sys.argv[1]).put("run/a.bin", Path(sys.argv[2]), "")
"""


def test_a_killed_writer_leaves_the_old_object_and_nothing_that_stays(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "store"
    source.write_bytes(b"old")
    store = open_store(str(folder))
    store.put("run/a.bin", source, hashlib.sha256(b"old").hexdigest())
    source.write_bytes(b"new")
    ended = run([str(folder), str(source)], code=KILLED)
    assert ended.returncode == -9
    assert len(list((folder / "run").iterdir())) == 2
    assert store.names() == ["run/a.bin"]
    assert store.read("run/a.bin") == b"old"
    # The remains of others' writing are not this object's.
    (folder / "run" / ".a.bin.json.12345678").touch()
    store.put("run/a.bin", source, hashlib.sha256(b"new").hexdigest())
    assert sorted(path.name for path in (folder / "run").iterdir()) == [".a.bin.json.12345678", "a.bin"]
    assert store.read("run/a.bin") == b"new"


def test_deleting_takes_remains_and_empty_folders_along(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.write("a/b/c", b"")
    remains = tmp_path / "store" / "a" / "b" / ".c.abcd_123"
    remains.mkdir()
    (remains / ".sidlsg-unfinished").touch()
    store.delete(["a/b/c"])
    assert list((tmp_path / "store").iterdir()) == []


def test_a_full_disk_names_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = open_store(str(tmp_path / "store"))
    store.write("a", b"old")
    monkeypatch.setattr("sidlsg.storage.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        store.write("a", b"new")
    assert caught.value.filename == str(tmp_path / "store" / "a")
    assert store.read("a") == b"old"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "cannot hold a store"),
        ("gs://bucket/x", "cannot hold a store"),
        ("file", "is a file"),
        ("file/below", "lies under a file"),
        ("s3://", "is not a URI on S3"),
        ("s3://Bucket/x", "is not a URI on S3"),
        ("s3://bucket//x", "is not a URI on S3"),
    ],
)
def test_a_place_that_cannot_hold_objects_is_refused(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=message) as caught:
        open_store(place)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_client_for_s3_is_not_loaded_for_a_folder(tmp_path: Path) -> None:
    code = "import sys, sidlsg.cli.app; from sidlsg.storage.uri import open_store\n"
    code += f"open_store({str(tmp_path)!r}).names()"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('boto3' in sys.modules)"], check=True)


def test_a_folder_that_another_process_makes_meanwhile_is_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def made_afterwards(path: Path) -> bool:
        there = is_dir(path)
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - that one asks is_dir
        return there

    monkeypatch.setattr(Path, "is_dir", made_afterwards)
    assert open_store(str(tmp_path / "store")).names() == []
