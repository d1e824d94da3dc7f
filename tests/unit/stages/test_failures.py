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
from sidlsg.stages.failures import (
    SettingFailure,
    conclude_step,
    failure_in,
    number_attempts,
    plan_step,
    raise_failures,
    recipe_changes,
    recording_failure,
    results_in,
    write_note,
)

SETTING: dict[str, Any] = {"strategy": "lsg", "scales": {"kappa": 3}, "iterations": 2}
FAILED = SettingFailure(setting="lsg kappa=3", step="distil", error="the loss is too large", exit_code=4)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of checkpoints."""
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    return tmp_path


def fail(setting: dict[str, Any], error: Exception) -> SettingFailure | None:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "student"
        results.mkdir()
        (results / "half.safetensors").touch()
        with recording_failure("distil", setting, results):
            raise error
        assert [path.name for path in results.iterdir()] == ["failure.json"]
        return failure_in(results)


@pytest.mark.usefixtures("place")
def test_a_failure_is_recorded_and_its_setting_gets_another_number_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = SETTING | {"scales": {"kappa": 2}}
    planned = [SETTING, other]
    assert number_attempts(planned) == planned
    for attempt in (1, 2):
        failed = fail(planned[0], AlarmError("the loss is too large"))
        assert failed is not None
        assert replace(failed, note="") == FAILED
        assert f"{FAILED.text}; the sweep continues" in capsys.readouterr().out
        planned = number_attempts([SETTING, other])
        assert planned == [SETTING | {"attempt": attempt}, other]
        # As a pipeline's parameters have them.
        planned[0] = planned[0] | {"attempt": float(attempt), "iterations": 2.0, "scales": {"kappa": 3.0}}
        assert recipe_changes(planned[0]) == SETTING


@pytest.mark.usefixtures("place")
def test_settings_that_differ_in_the_recipe_alone_fail_and_are_retried_apart() -> None:
    texts = ["lsg kappa=3", "lsg kappa=3 steps=2", 'lsg kappa=3 adapter={"rank": 8} steps=2']
    given = texts, "tiny", {"iterations": 2.0}
    planned = plan_step(*given)
    # As a pipeline's parameters have them.
    failed = fail(planned[1] | {"steps": 2.0}, AlarmError("the loss is too large"))
    assert failed is not None
    assert failed.setting == "lsg kappa=3 steps=2"
    assert failed.text == "setting 'lsg kappa=3 steps=2': distil failed: the loss is too large"
    again = plan_step(*given)
    assert again == [planned[0], planned[1] | {"attempt": 1}, planned[2]]
    assert recipe_changes(again[1]) == {"iterations": 2, "strategy": "lsg", "scales": {"kappa": 3.0}, "steps": 2}
    fail(again[2], InputError("no"))
    assert [each.get("attempt", 0) for each in plan_step(*given)] == [0, 1, 1]


def test_a_lost_note_is_written_again(place: Path) -> None:
    failed = fail(SETTING, InputError("no"))
    assert failed is not None
    shutil.rmtree(place / "sweep-failures")
    assert number_attempts([SETTING]) == [SETTING]
    write_note(failed)  # as the comparison does, whether the failure is new or came from a cache
    assert number_attempts([SETTING]) == [SETTING | {"attempt": 1}]


def test_where_no_note_can_be_written_the_failure_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(AlarmError, match="the loss"), recording_failure("distil", SETTING, tmp_path / "student"):
        raise AlarmError("the loss is too large")


@pytest.mark.usefixtures("place")
def test_a_retry_of_a_step_is_not_counted_as_an_attempt() -> None:
    for _ in range(2):
        fail(SETTING, InputError("no"))
    assert number_attempts([SETTING]) == [SETTING | {"attempt": 1}]


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
    assert number_attempts([SETTING]) == [SETTING]


def test_a_later_step_records_the_failure_of_the_earlier_one(place: Path) -> None:
    folder = place / "student"
    folder.mkdir()
    assert results_in(folder) == folder
    FAILED.save(folder)
    with recording_failure("evaluate", SETTING, place / "scorecard"):
        results_in(folder)
    assert failure_in(place / "scorecard") == FAILED
    assert not (place / "sweep-failures").exists()


def test_the_run_fails_with_the_first_failures_exit_code() -> None:
    raise_failures([])
    conclude_step("[]")
    other = SettingFailure(setting="none", step="evaluate", error="e", exit_code=2)
    with pytest.raises(StageError, match=r"setting 'lsg kappa=3': distil failed: the loss.*; the other") as raised:
        conclude_step(f"[{FAILED.to_json()}, {other.to_json()}]")
    assert raised.value.exit_code == 4
