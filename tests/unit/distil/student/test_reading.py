"""The process that reads a released checkpoint: how it may end, and what it has of this one."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.distil.student.released import convert_released
from sidlsg.runtime.errors import InputError

Write = Callable[..., Path]


def interpreter(tmp_path: Path, script: str) -> str:
    """A program in Python's place, for what the reading process sees and how it may end."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -XCPU $$", "took more time or memory than a file of its size needs"),
        ("kill -KILL $$", "took more time or memory than a file of its size needs"),
        ("echo one >&2; echo two >&2; exit 1", r"cannot be read: two \(exit code 1"),
        ("exit 3", r"cannot be read: no message \(exit code 3"),
    ],
)
def test_how_the_reading_process_ends_is_reported(
    released: Write, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, script))
    with pytest.raises(InputError, match=message):
        convert_released(released(), teacher, tmp_path / "student", kappa=1.5)


def test_the_reading_process_has_no_credentials_and_imports_nothing_from_where_it_runs(
    released: Write, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    real = sys.executable
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", interpreter(tmp_path, f'env > {tmp_path}/seen; exec {real} "$@"'))
        convert_released(released(), teacher, tmp_path / "student", kappa=1.5)
    assert "secret" not in (tmp_path / "seen").read_text()
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    convert_released(released(), teacher, tmp_path / "student", kappa=1.5)
    assert not (tmp_path / "ran").exists()
