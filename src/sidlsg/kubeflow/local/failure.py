"""The error of a stage that failed in a process of its own."""

from __future__ import annotations

from pathlib import Path

from sidlsg.kubeflow.local.output import Failure
from sidlsg.runtime.errors import StageError


def stage_error(failed: Failure, log: Path) -> StageError:
    """The error to raise for a failed stage.

    Args:
        failed: the stage, and what it reported.
        log: the file with everything that it printed.
    """
    whose = f"setting {failed.setting!r}: " if failed.setting else ""
    stage, error = failed.stage, failed.error
    if error is None:
        return StageError(
            f"{whose}stage {stage} ended without an error message, as a killed process does (is there enough memory?); "
            f"everything it printed is in {log}",
            stage,
            1,
        )
    if error["exit_code"] is not None:
        return StageError(f"{whose}{error['text']}", stage, error["exit_code"])
    named = f"{error['type']}: {error['text']}" if error["text"] else error["type"]
    return StageError(f"{whose}stage {stage} failed: {named}; everything it printed is in {log}", stage, 1)
