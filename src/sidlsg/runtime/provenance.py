"""What this package's own code is: the version of its results, its digest, and the commit and image that it came in."""

from __future__ import annotations

import hashlib
import os
import subprocess
import unicodedata
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

COMMIT_VARIABLE = "SIDLSG_GIT_COMMIT"
"""Says in an image which commit its package was built of."""
IMAGE_VARIABLE = "SIDLSG_RUNNING_IMAGE"
"""Says in a pipeline's container which image it was started from: a compiled pipeline sets it."""
RUN_VARIABLE = "SIDLSG_PIPELINE_RUN"
"""Says in a pipeline's container which run it is of."""
GPUS_VARIABLE = "SIDLSG_GPUS"
"""Says in a pipeline's container how many GPUs it asked for."""
CHECKPOINTS_VARIABLE = "SIDLSG_CHECKPOINTS"
"""Says in a pipeline's container where unfinished work is kept. Not a parameter: no result depends on it, and a step's
parameters decide whether its earlier result is used again."""
CURATE_VARIABLES = ("SIDLSG_CURATE_ENGINE", "SIDLSG_CURATE_WORKERS", "SIDLSG_CURATE_MEMORY_GB")
"""Say where curation runs, by how many workers, and how many gigabytes they may take; for the same reason."""
RESTARTS_VARIABLE = "SIDLSG_RESTARTS"
"""Says in a training step how often it may restart a lost training without a new checkpoint."""
RESTART_WAIT_VARIABLE = "SIDLSG_RESTART_WAIT"
"""Says in a training step how many seconds to wait before the first of these restarts."""
NOTICE_VARIABLE = "SIDLSG_NOTICE_URL"
"""Holds in the step `notify` the webhook's URL, out of a Secret."""
PAGES_VARIABLE = "SIDLSG_PIPELINES_PAGES"
"""Says in the step `notify` where people see Kubeflow Pipelines' pages, for links to runs."""


@cache
def code_digest() -> str:
    """SHA-256 over all Python files of the installed package, components and pipelines included: a record's lineage.

    It changes with a comment, so no result is used again or thrown away by it; `results_version` is for that.
    """
    digest = hashlib.sha256()
    for name, content in sorted(_sources().items()):
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def git_commit() -> str:
    """The commit of the running code: as its image says, or that of the checkout; empty where neither is.

    `+changes` at the end says that files of the checkout differ from the commit.
    """
    root = Path(__file__).parents[3]
    if COMMIT_VARIABLE in os.environ or not (root / ".git").exists():
        return os.environ.get(COMMIT_VARIABLE, "")

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of another user
        return ""


def running_image() -> str:
    """The container image that this process runs in, by digest, where a pipeline says so; else empty."""
    return os.environ.get(IMAGE_VARIABLE, "")


def _sources() -> dict[str, bytes]:
    # In a checkout, components and pipelines lie outside src/; as packages they are always found.
    roots = {"": files("sidlsg"), "components/": files("sidlsg.components"), "pipelines/": files("sidlsg.pipelines")}
    found: dict[str, bytes] = {}
    for prefix, root in roots.items():
        found |= {f"{prefix}{name}": content for name, content in _python_files(root, "").items()}
    return found


def _python_files(folder: Traversable, prefix: str) -> dict[str, bytes]:
    result: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            result |= _python_files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            result[f"{prefix}{entry.name}"] = entry.read_bytes()
    return result


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
