"""Reads back what real processes print when they fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from sidlsg.errors import SidlsgError
from sidlsg.run.failure import stage_error

LOG = Path("run.log")


def printed_by(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode != 0
    return done.stdout.splitlines()


@pytest.mark.parametrize(("kind", "code"), [("InputError", 2), ("VerdictError", 3), ("SidlsgError", 1)])
def test_an_error_of_ours_keeps_message_and_exit_code(kind: str, code: int) -> None:
    lines = printed_by(f"from sidlsg.errors import {kind}; print('before'); raise {kind}('no unet: give one')")
    error = stage_error("distil", lines, LOG)
    assert (str(error), error.stage, error.exit_code) == ("no unet: give one", "distil", code)
    assert isinstance(error, SidlsgError)


def test_of_a_chain_the_last_error_counts() -> None:
    lines = printed_by(
        "from sidlsg.errors import InputError\n"
        "try:\n    open('/nowhere/at/all')\nexcept OSError as e:\n    raise InputError('give a file') from e"
    )
    assert str(stage_error("curate", [*lines, "", "an exit handler's line"], LOG)) == "give a file"


def test_of_a_sweep_the_setting_is_told() -> None:
    lines = printed_by("from sidlsg.errors import AlarmError; raise AlarmError('the loss is not finite')")
    error = stage_error("distil", lines, LOG, "lsg kappa=9")
    assert (str(error), error.exit_code) == ("setting 'lsg kappa=9': the loss is not finite", 4)


def test_another_error_is_told_with_its_kind_and_the_log() -> None:
    error = stage_error("distil", printed_by("raise ValueError('bad\\nsecond line')"), LOG)
    assert str(error) == "stage distil failed: ValueError: bad; everything it printed is in run.log"
    assert error.exit_code == 1


def test_an_error_without_a_message() -> None:
    assert "failed: KeyboardInterrupt;" in str(stage_error("distil", printed_by("raise KeyboardInterrupt"), LOG))


def test_a_killed_process_is_told_as_such() -> None:
    lines = printed_by("import os, signal; print('InputError: not one', flush=True); os.kill(os.getpid(), 9)")
    error = stage_error("evaluate", lines, LOG)
    assert "stage evaluate ended without an error message" in str(error)
    assert "run.log" in str(error)
    assert error.exit_code == 1
