"""What a user is told of a stage that failed."""

from pathlib import Path
from typing import Any

import pytest

from sidlsg.kubeflow.local.output import StageFailure, stage_error
from sidlsg.runtime.errors import SidlsgError

LOG = Path("run.log")


def failed(setting: str = "", **error: Any) -> StageFailure:
    return StageFailure(stage="distil", setting=setting, error=error or None)


@pytest.mark.parametrize("code", [1, 2, 3])
def test_an_error_of_ours_keeps_message_and_exit_code(code: int) -> None:
    error = stage_error(failed(type="InputError", text="no unet: give one", exit_code=code), LOG)
    assert (str(error), error.stage, error.exit_code) == ("no unet: give one", "distil", code)
    assert isinstance(error, SidlsgError)


def test_an_error_of_a_sweep_names_the_setting() -> None:
    error = stage_error(failed("lsg kappa=9", type="AlarmError", text="the loss is not finite", exit_code=4), LOG)
    assert (str(error), error.exit_code) == ("setting 'lsg kappa=9': the loss is not finite", 4)


def test_another_error_is_given_with_its_type_and_the_log() -> None:
    error = stage_error(failed(type="ValueError", text="bad", exit_code=None), LOG)
    assert str(error) == "stage distil failed: ValueError: bad; everything it printed is in run.log"
    assert error.exit_code == 1


def test_an_error_without_a_message() -> None:
    assert "failed: KeyboardInterrupt;" in str(
        stage_error(failed(type="KeyboardInterrupt", text="", exit_code=None), LOG)
    )


def test_a_killed_process_is_named_as_such() -> None:
    error = stage_error(failed(), LOG)
    assert "stage distil ended without an error message" in str(error)
    assert "run.log" in str(error)
    assert error.exit_code == 1
