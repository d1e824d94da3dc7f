"""The pages on extending the project, followed to the letter: their changes apply to a copy, and its tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.long


def run(folder: Path, *command: str, given: str = "") -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if command[0] == sys.executable:
        environment["PYTHONPATH"] = str(folder / "src")
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project as it is here, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "project"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "--quiet")
    return folder


@pytest.mark.parametrize("page", ["add-a-guidance-strategy.md", "add-a-metric.md"])
def test_the_changes_on_a_page_apply_and_the_tests_that_it_names_pass(page: str, copy: Path) -> None:
    text = (ROOT / "docs" / page).read_text()
    changes = re.findall(r"^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert changes
    for change in changes:
        run(copy, "git", "apply", "-", given=change)
    for command in re.findall(r"^\.venv/bin/python (.*)$", text, re.MULTILINE):
        run(copy, sys.executable, *command.split())
    run(copy, str(BIN / "ruff"), "check", ".")
    run(copy, str(BIN / "ruff"), "format", "--check", ".")
    run(copy, str(BIN / "mypy"), "src")
