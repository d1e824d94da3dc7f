"""Failures that a sweep's steps hand on: Kubeflow Pipelines would end the whole run at its first failed step.

A failure that is handed on looks like a success to Kubeflow, which keeps it in its cache. So each failure is recorded
in the place of checkpoints, too, and the next run of the sweep numbers the setting's attempt, which no cache knows.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sidlsg.runtime.errors import SidlsgError, StageError, StoppedError, first_line
from sidlsg.runtime.overrides import changes_text, parse_changes
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE, checkpoints_place
from sidlsg.stages.sweep import GuidanceSetting
from sidlsg.storage.files import atomic_write, sha256_bytes
from sidlsg.storage.store import Store
from sidlsg.storage.uri import open_store

ATTEMPT = "attempt"
"""Stands among a setting's changes where it failed before."""
FILE = "failure.json"
_FOLDER = "sweep-failures"


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A setting whose student could not be made, registered or scored."""

    setting: str
    step: str
    error: str
    exit_code: int
    note: str = ""
    """Name of its note in the place of checkpoints."""

    @property
    def text(self) -> str:
        """On one line."""
        return f"setting {self.setting!r}: {self.step} failed: {self.error}"

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Failed | None:
        """Read one; None where the text is something else."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError:
            return None

    def save(self, folder: Path) -> None:
        """Leave it in a folder in place of results."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        atomic_write(folder / FILE, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> Failed | None:
        """The failure that a folder holds in place of results; None where it holds results."""
        path = folder / FILE
        return cls.from_json(path.read_text()) if path.is_file() else None


class HandedOnError(SidlsgError):
    """An earlier step of the setting failed."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.text)
        self.failed = failed


@dataclass
class Handed:
    """What came of a step's work."""

    failed: Failed | None = None


@contextmanager
def handing_on(step: str, setting: Mapping[str, Any], results: Path, report: Callable[[str], None]) -> Iterator[Handed]:
    """Take a failure of the block as a result of it, where the step works for a sweep's setting.

    It stays a failure where no place of checkpoints is named: what Kubeflow keeps of it could not be undone.

    Args:
        step: its name.
        setting: the changes of the recipe that the setting means; empty outside of a sweep.
        results: the folder that gets the failure in place of the step's results.
        report: receives a line for the log.
    """
    handed = Handed()
    try:
        yield handed
    except HandedOnError as error:
        handed.failed = error.failed
    except StoppedError:
        raise
    except Exception as error:
        if not setting or not os.environ.get(CHECKPOINTS_VARIABLE):
            raise
        told = first_line(error) if isinstance(error, SidlsgError) else f"{type(error).__name__}: {first_line(error)}"
        name = GuidanceSetting(setting["strategy"], setting["scales"]).text
        failed = Failed(
            setting=name,
            step=step,
            error=told,
            exit_code=getattr(error, "exit_code", 1),
            note=f"{_key(setting)}/{setting.get(ATTEMPT, 0):g}-{step}.json",
        )
        try:
            take_note(failed)
        except SidlsgError as unnoted:
            report(f"the failure cannot be handed on: {first_line(unnoted)}")
            raise error from None
        report(f"{failed.text}; the sweep's other settings go on")
        handed.failed = failed
    if handed.failed is not None:
        handed.failed.save(results)


def take_note(failed: Failed) -> None:
    """Record a failure, or record it again: one that came from the cache may have lost its note.

    Raises:
        InputError: the place of checkpoints refuses it.
        StorageError: it does not answer.
    """
    if failed.note and os.environ.get(CHECKPOINTS_VARIABLE):
        _store().write(failed.note, failed.to_json().encode())


def results_in(folder: Path) -> Path:
    """The folder, if an earlier step left its results there.

    Raises:
        HandedOnError: it left a failure.
    """
    if (failed := Failed.load(folder)) is not None:
        raise HandedOnError(failed)
    return folder


def with_attempts(planned: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number the attempts of the settings that failed before.

    Args:
        planned: the changes of each setting.

    Raises:
        StorageError: the place of checkpoints does not answer.
    """
    if not os.environ.get(CHECKPOINTS_VARIABLE):
        return planned
    failures = Counter(name.partition("/")[0] for name in _store().names())
    return [each | ({ATTEMPT: count} if (count := failures[_key(each)]) else {}) for each in planned]


def without_attempt(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A setting's changes as the recipe takes them."""
    return {name: value for name, value in changes.items() if name != ATTEMPT}


def failures_json(failures: Sequence[Failed]) -> str:
    """A JSON list, as `failures_of` takes it."""
    return json.dumps([asdict(failed) for failed in failures])


def failures_of(text: str) -> list[Failed]:
    """Read such a list."""
    return TypeAdapter(list[Failed]).validate_json(text)


def require_none(failures: Sequence[Failed], page: str = "the sweep's page") -> None:
    """End a sweep in which settings failed, after its page is written.

    Args:
        failures: of its settings.
        page: where the others are, for the message.

    Raises:
        StageError: some did; the message names them, and the exit code is that of the first.
    """
    if failures:
        told = "; ".join(failed.text for failed in failures)
        told += f"; the other settings are on {page}, and the same sweep again tries these once more"
        raise StageError(told, failures[0].step, failures[0].exit_code)


def _key(setting: Mapping[str, Any]) -> str:
    """The same for whole numbers and the doubles that a pipeline's parameters make of them."""
    plain = parse_changes(changes_text(without_attempt(setting)))
    return sha256_bytes(json.dumps(plain, sort_keys=True).encode())[:16]


def _store() -> Store:
    return open_store(f"{checkpoints_place().rstrip('/')}/{_FOLDER}")
