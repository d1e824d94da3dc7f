"""Failures that a sweep's steps record instead of raising: Kubeflow Pipelines ends a run at its first failed step.

A recorded failure looks like a success to Kubeflow, which caches it. So each failure is also noted next to the
checkpoints, and the next run of the sweep adds an attempt number to the setting, which makes its cache key new.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from sidlsg.runtime.errors import InputError, SidlsgError, StageError, StoppedError, first_line
from sidlsg.runtime.overrides import changes_text, parse_changes
from sidlsg.runtime.progress import note
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE, checkpoints_place
from sidlsg.stages.sweep import TEXT, SweepSetting, plan_changes
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import Record
from sidlsg.storage.store import Store
from sidlsg.storage.uri import open_store

ATTEMPT = "attempt"
"""Name of the attempt number among a setting's changes, if the setting failed before."""
_FOLDER = "sweep-failures"


@dataclass(frozen=True, kw_only=True)
class SettingFailure(Record):
    """A setting whose student could not be distilled, registered or scored; recorded instead of results and version."""

    FILE: ClassVar[str] = "failure.json"
    setting: str
    step: str
    error: str
    exit_code: int
    note: str = ""
    """Name of its note next to the checkpoints."""

    @property
    def text(self) -> str:
        """The failure on one line."""
        return f"setting {self.setting!r}: {self.step} failed: {self.error}"


def parse_failure(text: str) -> SettingFailure | None:
    """Read a failure from JSON; None if the text is something else."""
    try:
        return SettingFailure.from_json(text)
    except InputError:
        return None


def failure_in(folder: Path) -> SettingFailure | None:
    """The failure that a folder holds instead of results, or None."""
    return SettingFailure.load(folder) if (folder / SettingFailure.FILE).is_file() else None


class EarlierFailureError(SidlsgError):
    """An earlier step of the setting failed."""

    def __init__(self, failure: SettingFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@contextmanager
def recording_failure(step: str, setting: Mapping[str, Any], results: Path) -> Iterator[None]:
    """Record a failure of the block in the folder of its results, if the step works on a sweep's setting.

    Without a URI for checkpoints, the failure is raised: a failure in Kubeflow's cache could never be retried.

    Args:
        step: name of the step.
        setting: the setting's changes of the recipe; empty outside of a sweep.
        results: the folder; `failure_in` reads the recorded failure.
    """
    try:
        yield
    except EarlierFailureError as error:
        _replace(results, error.failure)
    except StoppedError:
        raise
    except Exception as error:
        if not setting or not os.environ.get(CHECKPOINTS_VARIABLE):
            raise
        known = isinstance(error, SidlsgError)
        failure = SettingFailure(
            setting=setting.get(TEXT) or SweepSetting(setting["strategy"], setting["scales"]).text,
            step=step,
            error=first_line(error) if known else f"{type(error).__name__}: {first_line(error)}",
            exit_code=getattr(error, "exit_code", 1),
            note=f"{_key(setting)}/{setting.get(ATTEMPT, 0):g}-{step}.json",
        )
        try:
            write_note(failure)
        except SidlsgError as refused:
            note(f"the failure cannot be recorded: {first_line(refused)}")
            raise error from None
        note(f"{failure.text}; the sweep continues with its other settings")
        _replace(results, failure)


def _replace(results: Path, failure: SettingFailure) -> None:
    shutil.rmtree(results, ignore_errors=True)
    failure.save(results)


def write_note(failure: SettingFailure) -> None:
    """Note a failure next to the checkpoints; also one from the cache, whose note may be lost."""
    if failure.note and os.environ.get(CHECKPOINTS_VARIABLE):
        _notes().write(failure.note, failure.to_json().encode())


def results_in(folder: Path) -> Path:
    """The folder of an earlier step's results; raises EarlierFailureError if it holds a failure."""
    if (failure := failure_in(folder)) is not None:
        raise EarlierFailureError(failure)
    return folder


def plan_step(settings: Sequence[str], recipe: str, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A sweep's settings as changes of its recipe, see `plan_changes`, each with the number of its attempt."""
    return number_attempts(plan_changes(settings, recipe, changes_text(changes)))


def number_attempts(planned: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the number of the attempt to the changes of each setting that failed before."""
    if not os.environ.get(CHECKPOINTS_VARIABLE):
        return planned
    failures = Counter(name.partition("/")[0] for name in _notes().names())
    return [each | ({ATTEMPT: count} if (count := failures[_key(each)]) else {}) for each in planned]


def recipe_changes(setting: Mapping[str, Any]) -> dict[str, Any]:
    """A setting's changes of the recipe, without its attempt number and its text."""
    return {name: value for name, value in setting.items() if name not in (ATTEMPT, TEXT)}


def raise_failures(failures: Sequence[SettingFailure], page: str = "") -> None:
    """Raise a StageError that names the settings that failed, with the first one's exit code; `page` has the others."""
    if failures:
        reasons = "; ".join(failure.text for failure in failures)
        others = f"the other settings are on {page}; " if page else ""
        raise StageError(
            f"{reasons}; {others}the same sweep again retries these", failures[0].step, failures[0].exit_code
        )


def conclude_step(failures: str, page: str = "the sweep's page") -> None:
    """Raise the failures in a JSON list, if there are any."""
    raise_failures(TypeAdapter(list[SettingFailure]).validate_json(failures), page)


def _key(setting: Mapping[str, Any]) -> str:
    """The setting's key, equal for whole numbers and for the doubles that pipeline parameters turn them into."""
    plain = parse_changes(changes_text(recipe_changes(setting)))
    return sha256_bytes(json.dumps(plain, sort_keys=True).encode())[:16]


def _notes() -> Store:
    return open_store(f"{checkpoints_place().rstrip('/')}/{_FOLDER}")
