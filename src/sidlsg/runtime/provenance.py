"""Provenance of a run: digest, commit and image of the code, the pipeline run, and log lines that carry its id."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from pathlib import Path

COMMIT_VARIABLE = "SIDLSG_GIT_COMMIT"
"""In an image: the commit that its package was built from."""

# Compiled pipelines set these in their containers. They are not parameters: no result depends on them, and a step's
# parameters decide whether its earlier result is reused.
IMAGE_VARIABLE = "SIDLSG_RUNNING_IMAGE"
RUN_VARIABLE = "SIDLSG_PIPELINE_RUN"
GPUS_VARIABLE = "SIDLSG_GPUS"
"""The number of GPUs that the step requested."""
CHECKPOINTS_VARIABLE = "SIDLSG_CHECKPOINTS"
"""The URI of unfinished work."""
CURATE_VARIABLES = ("SIDLSG_CURATE_ENGINE", "SIDLSG_CURATE_WORKERS", "SIDLSG_CURATE_MEMORY_GB")
RESTARTS_VARIABLE = "SIDLSG_RESTARTS"
"""How often a training step may restart a lost training without a new checkpoint."""
RESTART_WAIT_VARIABLE = "SIDLSG_RESTART_WAIT"
"""Seconds before the first of these restarts."""
NOTICE_VARIABLE = "SIDLSG_NOTICE_URL"
"""The webhook's URL for the step `notify`, from a Secret."""
PAGES_VARIABLE = "SIDLSG_PIPELINES_PAGES"
"""The address of Kubeflow Pipelines' pages for people, for links to runs in `notify`."""
RUN_TAG = "pipeline_run"
"""MLflow's tag with the pipeline run's id, on a run and on a version."""
IN_THE_POD = "/tmp/sidlsg-checkpoints"
"""For unfinished work without a URI; it is lost with the pod."""


@cache
def code_digest() -> str:
    """SHA-256 over all Python files of the package, components and pipelines included, for a record's lineage.

    It changes with a comment, so it never decides whether a result is reused.
    """
    digest = hashlib.sha256()
    for name, content in sorted(_sources().items()):
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def git_commit() -> str:
    """The commit of the image or the checkout, with `+changes` if files differ from it; empty without either."""
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
    """The container image of this process, by digest; empty outside a pipeline."""
    return os.environ.get(IMAGE_VARIABLE, "")


def _sources() -> dict[str, bytes]:
    """The package's Python files by name; in a checkout, components and pipelines lie outside src/."""
    folders = {"": "sidlsg", "components/": "sidlsg.components", "pipelines/": "sidlsg.pipelines"}
    roots = {prefix: Path(str(files(package))) for prefix, package in folders.items()}
    return {
        f"{prefix}{path.relative_to(root).as_posix()}": path.read_bytes()
        for prefix, root in roots.items()
        for path in root.rglob("*.py")
    }


def pipeline_run() -> str:
    """The id of the pipeline run; empty outside a pipeline."""
    return "".join(os.environ.get(RUN_VARIABLE, "").split())


def checkpoints_place() -> str:
    """The URI of unfinished work of a pipeline's steps: a folder or an `s3://` prefix."""
    return os.environ.get(CHECKPOINTS_VARIABLE) or IN_THE_POD


def run_tag() -> dict[str, str]:
    """MLflow's tag of the pipeline run; empty outside a pipeline."""
    run = pipeline_run()
    return {RUN_TAG: run} if run else {}


def printable(text: str) -> str:
    """A text with control and format characters as escapes, except newlines and tabs.

    Texts of servers and files could otherwise control the terminal, or reverse a line's direction.
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
    """A printable text for the log, each line prefixed with the run."""
    run, text = pipeline_run(), printable(text)
    return "\n".join(f"run={run} {line}" for line in text.split("\n")) if run else text


NOTE = "note: "
"""Starts a line for the user."""


_silent = ContextVar("silent", default=False)


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Print no remark during the block."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def remark(text: str) -> None:
    """Print a note to standard error, as standard output may hold a record."""
    if not _silent.get():
        print(f"{NOTE}{text}", file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """Log a text without buffering."""
    print(headed(text), flush=True)  # noqa: T201
