"""The pipeline run that this process works for: its id, and lines of the log that begin with it."""

from __future__ import annotations

import os
import unicodedata

from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE, RUN_VARIABLE

RUN_TAG = "pipeline_run"
"""The tag with that id, on a run and on a version in MLflow."""

IN_THE_POD = "/tmp/sidlsg-checkpoints"
"""For unfinished work where nothing names a place: it goes with the pod."""


def pipeline_run() -> str:
    """The id of the pipeline run, the same word everywhere; empty where there is none."""
    return "".join(os.environ.get(RUN_VARIABLE, "").split())


def checkpoints_place() -> str:
    """Where a pipeline's steps keep unfinished work: a folder or an `s3://` prefix."""
    return os.environ.get(CHECKPOINTS_VARIABLE) or IN_THE_POD


def run_tag() -> dict[str, str]:
    """The tag for MLflow; none where there is no pipeline run."""
    run = pipeline_run()
    return {RUN_TAG: run} if run else {}


def printable(text: str) -> str:
    r"""A text whose control and format characters are shown as escapes, but for newlines and tabs.

    What a server or a file says could otherwise steer the terminal, or turn the direction of a line.
    """
    if text.isprintable():
        return text
    steering = ("Cc", "Cf", "Cs")
    return "".join(
        char.encode("unicode_escape").decode()
        if char not in "\n\t" and unicodedata.category(char) in steering
        else char
        for char in text
    )


def headed(text: str) -> str:
    """A text for the log, each of its lines with the run at its head; see `printable`."""
    run, text = pipeline_run(), printable(text)
    return "\n".join(f"run={run} {line}" for line in text.split("\n")) if run else text


def say(text: str) -> None:
    """Print a text for the log, at once: it is read while the work goes on."""
    print(headed(text), flush=True)  # noqa: T201
