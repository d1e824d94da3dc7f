"""Writes that are complete or do not happen, and digests by the documented rule."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage import files as storage
from sidlsg.storage.files import (
    atomic_folder,
    atomic_write,
    folder_lock,
    format_sha256sums,
    parse_sha256sums,
    refuse_foreign,
    refuse_inside,
    require_writable,
    sha256_bytes,
    sha256_file,
    sha256_files,
)

MARKER = "record.json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int = 1) -> None:
    """Let the n-th call of a function of `os` fail as on a full disk."""
    real, calls = getattr(os, function), iter(range(1, 1000))

    def failing(*args: object, **options: object) -> object:
        if next(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(f"sidlsg.storage.files.os.{function}", failing)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_digests_are_sha256(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert sha256_bytes(data) == sha256_file(tmp_path / "x") == sha256(data)


def test_a_trees_digest_is_over_names_and_contents(tmp_path: Path) -> None:
    files = {"b.txt": b"2", "a/c.txt": b"1"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    lines = "".join(f"{name}\0{sha256(files[name])}\n" for name in ("a/c.txt", "b.txt"))
    before = sha256_files(tmp_path, sorted(p for p in tmp_path.rglob("*") if p.is_file()))
    assert before == sha256(lines.encode())
    (tmp_path / "b.txt").rename(tmp_path / "d.txt")
    assert sha256_files(tmp_path, sorted(p for p in tmp_path.rglob("*") if p.is_file())) != before


@pytest.mark.parametrize("data", [b"\x00\xff", "κ and α"])
def test_a_file_is_written_with_its_folders(tmp_path: Path, data: bytes | str) -> None:
    path = tmp_path / "a" / "b" / "x"
    atomic_write(path, data)
    assert path.read_bytes() == (data if isinstance(data, bytes) else data.encode())
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["x"]


def test_others_may_read_what_was_written_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "x", b"")
        with atomic_folder(tmp_path / "f", MARKER):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o750


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "x"
    atomic_write(path, b"old")
    fail_at(monkeypatch, function)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "fsync")
    with pytest.raises(OSError, match="No space left"):
        atomic_write(tmp_path / "x", b"new")
    assert names(tmp_path) == []


def test_a_folder_appears_whole_and_replaces_the_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "a" / "out"
    with atomic_folder(target, MARKER) as folder:
        (folder / MARKER).write_text("1")
        (folder / "old.txt").write_text("old")
        assert not target.exists()
    with atomic_folder(target, MARKER) as folder:
        (folder / MARKER).write_text("2")
        assert (target / MARKER).read_text() == "1"
    assert names(target) == [MARKER]
    assert (target / MARKER).read_text() == "2"
    assert names(target.parent) == ["out"]


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, earlier: bool, failure: BaseException) -> None:
    target = tmp_path / "out"
    if earlier:
        target.mkdir()
        (target / MARKER).write_text("1")
    with pytest.raises(type(failure)), atomic_folder(target, MARKER) as folder:
        (folder / MARKER).write_text("2")
        raise failure
    assert names(tmp_path) == (["out"] if earlier else [])
    if earlier:
        assert (target / MARKER).read_text() == "1"


@pytest.mark.parametrize("call", [1, 2])
def test_a_folder_that_cannot_take_its_place_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Where two folders cannot be exchanged at once."""
    monkeypatch.setattr(storage, "_exchange", lambda *_: False)
    target = tmp_path / "out"
    target.mkdir()
    (target / MARKER).write_text("1")
    fail_at(monkeypatch, "replace", call)
    with pytest.raises(OSError, match="No space left"), atomic_folder(target, MARKER) as folder:
        (folder / MARKER).write_text("2")
    assert (target / MARKER).read_text() == "1"
    assert names(target) == [MARKER]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_at_each_moment_of_a_kill_there_is_an_output_or_it_comes_back(tmp_path: Path, exchanges: bool) -> None:
    """The process ends at once at its first, second, … system call that renames."""
    target, moment = tmp_path / "out", 0
    while True:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        (target / MARKER).write_text("1")
        moment += 1
        pid = os.fork()
        if not pid:
            _replace_and_die(target, moment, exchanges)
        killed = os.waitpid(pid, 0)[1] != 0
        if not killed:
            break
        assert target.exists() or not exchanges
        storage.remove_remains(target)
        assert (target / MARKER).read_text() in "12"
        assert names(tmp_path) == ["out"]
    assert moment == (2 if exchanges else 3)
    assert (target / MARKER).read_text() == "2"


def _replace_and_die(target: Path, moment: int, exchanges: bool) -> NoReturn:
    calls = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == moment:
                os._exit(1)
            return function(*given)

        return call

    os.replace = dying(os.replace)
    storage._exchange = dying(storage._exchange) if exchanges else lambda *_: False  # type: ignore[assignment]
    with atomic_folder(target, MARKER) as folder:
        (folder / MARKER).write_text("2")
    os._exit(0)


def test_a_users_own_files_and_folders_stay_whatever_their_names(tmp_path: Path) -> None:
    mine = [".out.original", ".out.previous", ".out.old.abcdefgh", ".x.original"]
    for name in mine[:3]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_text("mine")
    (tmp_path / mine[3]).write_text("mine")
    with atomic_folder(tmp_path / "out", MARKER) as folder:
        (folder / MARKER).write_text("1")
    storage.remove_remains(tmp_path / "x")
    assert names(tmp_path) == sorted([*mine, "out"])
    assert all((tmp_path / name / "notes").exists() for name in mine[:3])


def test_foreign_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"), atomic_folder(tmp_path, MARKER):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="is a file"), atomic_folder(tmp_path / "mine.txt", MARKER):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_free_place_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / MARKER).write_text("")
    for name in ("empty", "earlier", "new", "new/below"):
        refuse_foreign(tmp_path / name, MARKER)
    assert names(tmp_path) == ["earlier", "empty"]


@pytest.mark.parametrize("place", ["file/out", "file/out/further"])
def test_a_place_under_a_file_is_refused_before_any_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    for attempt in (
        lambda: refuse_foreign(tmp_path / place, MARKER),
        lambda: atomic_write(tmp_path / place, b""),
        lambda: atomic_folder(tmp_path / place, MARKER).__enter__(),
    ):
        with pytest.raises(InputError, match="file is a file") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        atomic_write(tmp_path / "out", b"")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("inside", [".", "checkpoints", "a/b"])
def test_what_lies_inside_an_output_folder_is_not_replaced_with_it(tmp_path: Path, inside: str) -> None:
    target = tmp_path / "out"
    with pytest.raises(InputError, match=r"checkpoints .* lies inside the output folder"):
        refuse_inside(target, checkpoints=target / inside)
    refuse_inside(target, checkpoints=tmp_path / "output", source=tmp_path)


def test_only_one_is_in_a_folder_at_a_time(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        with pytest.raises(InputError, match="another run is going on in"), folder_lock(tmp_path):
            pass
        with pytest.raises(InputError, match="somebody paints it; wait"), folder_lock(tmp_path, "somebody paints it"):
            pass
    with folder_lock(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_found_before_work_begins(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in (Path("/proc/x/y"), tmp_path / "file" / "folder"):
        with pytest.raises(InputError, match=r"nothing can be written to .*; give an output elsewhere"):
            require_writable(place)


@pytest.mark.parametrize("asked", ["exists", "is_dir"])
def test_a_folder_that_another_process_makes_meanwhile_is_no_file(
    tmp_path: Path, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    ask = getattr(Path, asked)

    def answer(path: Path) -> bool:
        found: bool = ask(path)
        if path == folder and not found:
            folder.mkdir()
        return found

    monkeypatch.setattr(Path, asked, answer)
    atomic_write(folder / "00000.json", "{}")
    assert (folder / "00000.json").read_text() == "{}"


def test_sha256sums_are_read_as_written_and_checked_by_line() -> None:
    digests = {"a.json": sha256(b"a"), "unet/a  b.bin": sha256(b"b")}
    assert parse_sha256sums(format_sha256sums(digests), "x") == digests
    for line in ("a.json", f"{'0' * 63}  a.json", f"{'0' * 64} a.json", f"{'0' * 64}  /etc/passwd"):
        with pytest.raises(ContentError, match=r"^s3://b/SHA256SUMS has the line .*not a digest and a file"):
            parse_sha256sums(f"{format_sha256sums(digests)}{line}\n", "s3://b/SHA256SUMS")
