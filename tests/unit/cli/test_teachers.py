"""The `convert` commands from the command line, and as the page writes them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from sidlsg.cli import app as cli
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import Student
from sidlsg.teacher.folder import check_folder, folder_digest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "start-from-released.md"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The program in this process: exit code, output, errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sidlsg", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_single_file_is_converted(
    run: Callable[..., tuple[int, str, str]], single_file: Callable[..., Path], layout: Path, tmp_path: Path
) -> None:
    file = single_file(tmp_path / "model.safetensors")
    words = ["convert", "single-file", str(file), "--layout", str(layout), "--output", str(tmp_path / "teacher")]
    code, out, _ = run(*words, "--sha256", sha256_file(file))
    check_folder(tmp_path / "teacher")
    assert (code, folder_digest(tmp_path / "teacher") in out) == (0, True)
    code, _, err = run(*words, "--sha256", "0" * 64)
    assert (code, "has SHA-256" in err) == (2, True)


def test_a_released_checkpoint_is_converted_with_a_teacher_in_one_file(
    run: Callable[..., tuple[int, str, str]],
    released: Callable[..., Path],
    single_file: Callable[..., Path],
    layout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    teacher = ["--teacher", str(single_file(tmp_path / "m.safetensors")), "--teacher-layout", str(layout)]
    file, output = released(), tmp_path / "student"
    words = ["convert", "released", str(file), *teacher, "--kappa", "2", "--output", str(output)]
    code, _, err = run(*words, "--t-init", "600", "--images-seen", "7")
    assert (code, err) == (0, "")
    student = Student.load(output)
    assert (student.kappas[0], student.t_init, student.images_seen) == (2, 600, 7)
    file.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    code, _, err = run(*words)
    assert code == 2
    assert err.startswith(f"error: {file} is refused: it asks for the name 'os.system'")
    assert Student.load(output) == student


def test_the_page_writes_commands_that_would_be_taken() -> None:
    group = typer.main.get_command(cli.app).commands["convert"]  # type: ignore[attr-defined]
    text = PAGE.read_text().replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("sidlsg convert ")]
    assert {words[2] for words in lines} == set(group.commands) == {"single-file", "released"}
    for _, _, name, *arguments in lines:
        group.commands[name].make_context(name, arguments)
