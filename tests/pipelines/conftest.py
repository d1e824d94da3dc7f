"""Short runs of whole pipelines: real stages in processes of their own, a real MLflow store, the real cache.

Training takes two iterations, and the evaluation draws fewer images than users' does; nothing else is smaller.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

CHANGES = json.dumps({"iterations": 2, "batch": 4, "micro_batch": 4, "grids": 1, "log_every": 1, "evaluate_images": 32})
IMAGES = 96

# Python imports a module of this name before anything else; only the process that the stages are forks of is changed.
FEWER_IMAGES = f"""
import os, sys
if "sidlsg.kubeflow.local.forks" in sys.orig_argv:
    from functools import partial
    from sidlsg.stages import evaluate as stage
    from sidlsg.stages import resolve
    stage.load_domain_protocols = partial(stage.load_domain_protocols, count={IMAGES})
    resolve.results_version = lambda: os.environ["AS_VERSION"]
"""


@pytest.fixture
def as_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the stages short, and set the version of results that a stage's cache goes by."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(FEWER_IMAGES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def change(code: str) -> None:
        monkeypatch.setenv("AS_VERSION", code)

    change("1" * 64)
    return change


@pytest.fixture
def changes() -> str:
    """Of the recipe, for a training that takes seconds."""
    return CHANGES


@pytest.fixture
def images() -> int:
    """How many images the evaluation draws."""
    return IMAGES
