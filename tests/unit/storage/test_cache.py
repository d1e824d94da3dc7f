"""Copies by digest: fetched once, whole or not at all, by however many processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from forked import run, run_all
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.cache import cache_folder, fetched
from sidlsg.storage.files import sha256_file, sha256_files

CONTENT = b"content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PROCESSES = 6

FETCH = """
import os, signal, sys, time
from pathlib import Path
from sidlsg.storage.cache import fetched
from sidlsg.storage.files import sha256_file
sha256, log, ending = sys.argv[1:]

def fetch(target):
    with open(log, "ab", buffering=0) as file:
        file.write(b"x")
    target.write_bytes(b"cont")
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    target.write_bytes(b"content")

path, _ = fetched("s3://bucket/a.bin", "a.bin", sha256, fetch, sha256_file)
assert path.read_bytes() == b"content"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Source:
    """Writes a content, and counts how often."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.count = 0

    def __call__(self, target: Path) -> None:
        self.count += 1
        target.write_bytes(self.content)


def get(source: Callable[[Path], None], sha256: str = SHA256, place: str = "s3://bucket/a.bin") -> Path:
    return fetched(place, "a.bin", sha256, source, sha256_file)[0]


def copies(cache: Path) -> list[str]:
    """The files in the cache, without locks."""
    return sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_content_is_fetched_once_from_wherever(cache: Path) -> None:
    source = Source()
    assert get(source) == get(source) == get(source, place="s3://other/a.bin") == cache / "sha256" / SHA256 / "a.bin"
    assert get(source).read_bytes() == CONTENT
    assert source.count == 1
    assert copies(cache) == [f"sha256/{SHA256}/a.bin"]


def test_without_a_digest_it_is_fetched_again_and_kept_for_those_with_one() -> None:
    source = Source()
    for _ in range(2):
        assert fetched("s3://bucket/a.bin", "a.bin", "", source, sha256_file)[1] == SHA256
    assert source.count == 2
    get(source)
    assert source.count == 2


def test_another_content_is_refused_and_not_kept(cache: Path) -> None:
    with pytest.raises(ContentError, match=r"s3://bucket/a\.bin has SHA-256"):
        get(Source(b"other"))
    assert copies(cache) == []


@pytest.mark.parametrize("damage", [b"contenT", b"cont", b""])
def test_a_damaged_copy_is_fetched_again(damage: bytes) -> None:
    source = Source()
    get(source).write_bytes(damage)
    assert get(source).read_bytes() == CONTENT
    assert source.count == 2


def test_a_folder_with_a_lost_file_is_fetched_again() -> None:
    def digest(path: Path) -> str:
        return sha256_files(path, [path / "a", path / "b"])

    def fetch(target: Path) -> None:
        target.mkdir()
        for name in "ab":
            (target / name).write_text(name)

    _, sha256 = fetched("s3://bucket/f", "f", "", fetch, digest)
    path, _ = fetched("s3://bucket/f", "f", sha256, fetch, digest)
    (path / "b").unlink()
    (path / "left").touch()
    path, _ = fetched("s3://bucket/f", "f", sha256, fetch, digest)
    assert sorted(p.name for p in path.iterdir()) == ["a", "b"]


def test_a_failed_fetch_leaves_nothing(cache: Path) -> None:
    def failing(target: Path) -> None:
        target.write_bytes(CONTENT[:3])
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        get(failing)
    assert copies(cache) == []
    assert get(Source()).read_bytes() == CONTENT


def test_processes_that_ask_at_the_same_time_fetch_once(cache: Path, tmp_path: Path) -> None:
    processes = run_all([SHA256, str(tmp_path / "log"), "well"], [{}] * PROCESSES, 60, code=FETCH)
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert (tmp_path / "log").read_bytes() == b"x"
    assert copies(cache) == [f"sha256/{SHA256}/a.bin"]


def test_a_killed_process_leaves_nothing_that_counts(cache: Path, tmp_path: Path) -> None:
    assert run([SHA256, str(tmp_path / "log"), "killed"], code=FETCH).returncode == -9
    assert len(copies(cache)) == 1
    source = Source()
    assert get(source).read_bytes() == CONTENT
    assert source.count == 1
    assert copies(cache) == [f"sha256/{SHA256}/a.bin"]


def test_the_folder_follows_the_users_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/user")
    monkeypatch.setenv("SIDLSG_CACHE", "~/models")
    assert cache_folder() == Path("/home/user/models")
    monkeypatch.setenv("SIDLSG_CACHE", "")
    assert cache_folder() == Path("/var/cache/user/sidlsg")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/does/not/count")
    assert cache_folder() == Path("/home/user/.cache/sidlsg")


def test_without_a_home_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIDLSG_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    # A container's user number need not be in the password file.
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    with pytest.raises(InputError, match="set SIDLSG_CACHE to a folder"):
        cache_folder()
