"""A failure of a sweep's setting is a result, and is never taken from a cache for ever."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidlsg.runtime.errors import AlarmError, InputError, StageError, StoppedError
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE
from sidlsg.stages.handed_on import (
    Failed,
    failures_json,
    failures_of,
    handing_on,
    require_none,
    results_in,
    take_note,
    with_attempts,
    without_attempt,
)

SETTING: dict[str, Any] = {"strategy": "lsg", "scales": {"kappa": 3}, "iterations": 2}
FAILED = Failed(setting="lsg kappa=3", step="distil", error="the loss is too large", exit_code=4)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of checkpoints."""
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    return tmp_path


def fail(setting: dict[str, Any], error: Exception) -> Failed | None:
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "student"
        with handing_on("distil", setting, results, lines.append) as handed:
            raise error
        assert Failed.load(results) == handed.failed
    assert str(error) in lines[0]
    return handed.failed


@pytest.mark.usefixtures("place")
def test_a_failure_is_handed_on_and_its_setting_gets_another_number_each_time() -> None:
    other = SETTING | {"scales": {"kappa": 2}}
    planned = [SETTING, other]
    assert with_attempts(planned) == planned
    for attempt in (1, 2):
        failed = fail(planned[0], AlarmError("the loss is too large"))
        assert failed is not None
        assert replace(failed, note="") == FAILED
        planned = with_attempts([SETTING, other])
        assert planned == [SETTING | {"attempt": attempt}, other]
        # As a pipeline's parameters have them.
        planned[0] = planned[0] | {"attempt": float(attempt), "iterations": 2.0, "scales": {"kappa": 3.0}}
        assert without_attempt(planned[0]) == SETTING


def test_a_lost_note_is_written_again(place: Path) -> None:
    failed = fail(SETTING, InputError("no"))
    assert failed is not None
    shutil.rmtree(place / "sweep-failures")
    assert with_attempts([SETTING]) == [SETTING]
    take_note(failed)  # as the comparison does, whether the failure is new or came from a cache
    assert with_attempts([SETTING]) == [SETTING | {"attempt": 1}]


def test_where_no_note_can_be_written_the_failure_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(AlarmError, match="the loss"), handing_on("distil", SETTING, tmp_path / "student", print):
        raise AlarmError("the loss is too large")


@pytest.mark.usefixtures("place")
def test_a_retry_of_a_step_is_no_attempt_of_its_own() -> None:
    for _ in range(2):
        fail(SETTING, InputError("no"))
    assert with_attempts([SETTING]) == [SETTING | {"attempt": 1}]


@pytest.mark.usefixtures("place")
def test_outside_of_a_sweep_and_when_asked_to_stop_a_failure_stays_one() -> None:
    with pytest.raises(InputError, match="no"):
        fail({}, InputError("no"))
    with pytest.raises(StoppedError, match="stop"):
        fail(SETTING, StoppedError("stop"))


def test_without_a_lasting_place_a_failure_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECKPOINTS_VARIABLE, raising=False)
    with pytest.raises(InputError, match="no"):
        fail(SETTING, InputError("no"))
    assert with_attempts([SETTING]) == [SETTING]


def test_a_later_step_hands_on_what_the_earlier_one_handed_to_it(place: Path) -> None:
    folder = place / "student"
    folder.mkdir()
    (folder / "half.safetensors").touch()
    assert results_in(folder) == folder
    FAILED.save(folder)
    assert [path.name for path in folder.iterdir()] == ["failure.json"]
    with handing_on("evaluate", SETTING, place / "scorecard", print) as handed:
        results_in(folder)
    assert handed.failed == FAILED == Failed.load(folder)
    assert not (place / "sweep-failures").exists()


def test_the_run_fails_with_the_first_failures_exit_code() -> None:
    assert failures_of(failures_json([FAILED])) == [FAILED]
    require_none([])
    with pytest.raises(StageError, match=r"setting 'lsg kappa=3': distil failed: the loss.*; the other") as raised:
        require_none([FAILED, Failed(setting="none", step="evaluate", error="e", exit_code=2)])
    assert raised.value.exit_code == 4
