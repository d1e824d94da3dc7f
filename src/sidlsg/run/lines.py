"""The lines that a stage prints for the user, told apart from everything else that its libraries print."""

from __future__ import annotations

from sidlsg.pipeline_run import headed

NOTE = "note: "
"""Starts a line that is meant for the user."""


def say(text: str) -> None:
    """Print a line for the user, at once: a log that is read while the stage runs must not lag."""
    print(headed(f"{NOTE}{text}"), flush=True)  # noqa: T201
