"""The lines that a stage prints for the user, marked so that they stand out from what its libraries print."""

from __future__ import annotations

from sidlsg.runtime.pipeline_run import headed
from sidlsg.runtime.progress import emit

NOTE = "note: "
"""Starts a line that is meant for the user."""


def say(text: str) -> None:
    """Print a line for the user, at once: a log that is read while the stage runs must not lag."""
    print(headed(f"{NOTE}{text}"), flush=True)  # noqa: T201
    emit(kind="note", text=text)
