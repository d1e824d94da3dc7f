"""The error of a stage that failed in a process of its own, read back from what it printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sidlsg import errors
from sidlsg.errors import SidlsgError

_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?")


class StageError(SidlsgError):
    """A stage failed; the message is the stage's own, and so is the exit code."""

    def __init__(self, message: str, stage: str, exit_code: int) -> None:
        super().__init__(message)
        self.stage = stage
        self.exit_code = exit_code


def stage_error(stage: str, printed: Sequence[str], log: Path, setting: str = "") -> StageError:
    """The error that a failed stage's output ends with.

    Args:
        stage: its name.
        printed: the last lines of its output.
        log: the file that has all of it.
        setting: of a sweep, which the stage ran for; empty where there is none.
    """
    whose = f"setting {setting!r}: " if setting else ""
    for name, message in reversed(_raised(printed)):
        kind = _own_kind(name)
        if kind is not None:
            return StageError(whose + message, stage, kind.exit_code)
        told = f"{name.rpartition('.')[2]}: {message}" if message else name
        return StageError(f"{whose}stage {stage} failed: {told}; everything it printed is in {log}", stage, 1)
    return StageError(
        f"{whose}stage {stage} ended without an error message, as a killed process does (is there enough memory?); "
        f"everything it printed is in {log}",
        stage,
        1,
    )


def _raised(printed: Sequence[str]) -> list[tuple[str, str]]:
    """Name and message of every exception whose traceback was printed, in order."""
    found = []
    inside = False
    for line in printed:
        if line.startswith(_TRACEBACK):
            inside = True
        elif inside and line and not line.startswith(" "):
            # The first line that is not indented ends a traceback.
            inside = False
            if match := _RAISED.fullmatch(line):
                found.append((match[1], match[2] or ""))
    return found


def _own_kind(name: str) -> type[SidlsgError] | None:
    module, _, short = name.rpartition(".")
    kind = getattr(errors, short, None) if module == errors.__name__ else None
    return kind if isinstance(kind, type) and issubclass(kind, SidlsgError) else None
