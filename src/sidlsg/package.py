"""What this package's own code is: its digests, so that results of other code are never taken for results of this,
and the commit and the image that it came in."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

PROMPTS_READ = ("prompts/read.py", "prompts/shards.py", "prompts/blocks.py")
"""What training needs of prompts: how a set was curated, its digest says."""
TRAINING_CODE = ("distil", "teacher", *PROMPTS_READ, "encode", "recipes/recipe.py", "randomness.py")
"""The parts that decide what a training run computes."""
COMMIT_VARIABLE = "SIDLSG_GIT_COMMIT"
"""Says in an image which commit its package was built of."""
IMAGE_VARIABLE = "SIDLSG_RUNNING_IMAGE"
"""Says in a pipeline's container which image it was started from: a compiled pipeline sets it."""
RUN_VARIABLE = "SIDLSG_PIPELINE_RUN"
"""Says in a pipeline's container which run it is of."""
GPUS_VARIABLE = "SIDLSG_GPUS"
"""Says in a pipeline's container how many GPUs it asked for."""


@cache
def code_digest(parts: tuple[str, ...] = ()) -> str:
    """SHA-256 over the Python files of the installed package, or of some parts of it.

    Args:
        parts: folders or files relative to the package; default all, components and pipelines included.
    """
    digest = hashlib.sha256()
    for name, content in sorted(_sources(parts).items()):
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def git_commit() -> str:
    """The commit of the running code: as its image says, or that of the checkout; empty where neither is.

    `+changes` at the end says that files of the checkout differ from the commit.
    """
    root = Path(__file__).parents[2]
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


def _sources(parts: tuple[str, ...]) -> dict[str, bytes]:
    # In a checkout, components and pipelines lie outside src/; as packages they are always found.
    roots = {"": files("sidlsg"), "components/": files("sidlsg.components"), "pipelines/": files("sidlsg.pipelines")}
    found: dict[str, bytes] = {}
    for prefix, root in roots.items():
        found |= {f"{prefix}{name}": content for name, content in _python_files(root, "").items()}
    if not parts:
        return found
    return {n: c for n, c in found.items() if any(n == part or n.startswith(f"{part}/") for part in parts)}


def _python_files(folder: Traversable, prefix: str) -> dict[str, bytes]:
    result: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            result |= _python_files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            result[f"{prefix}{entry.name}"] = entry.read_bytes()
    return result
