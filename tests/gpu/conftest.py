"""What the tests on a GPU share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Read when cuBLAS starts; without it its products have no deterministic form.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

from gpu.training import Bundled
from sidlsg.prompts.held_out import read_held_out


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """The GPU; these tests fail where there is none, for whoever asks for them wants to know."""
    if not torch.cuda.is_available():
        pytest.fail("these tests need a GPU that CUDA can use, and none is here")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def bundled(assets: Path) -> Bundled:
    """The bundled teacher and its text states."""
    return Bundled(assets)


@pytest.fixture(scope="session")
def tiny_prompts(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled prompt set, curated."""
    from sidlsg.prompts.rules import CurationRules
    from sidlsg.stages.curate import curate

    folder = tmp_path_factory.mktemp("curated") / "prompts"
    held_out = read_held_out(assets / "prompts" / "held_out.txt")
    curate(assets / "prompts" / "prompts.parquet", folder, CurationRules(), held_out)
    return folder


@pytest.fixture
def deterministic() -> Iterator[None]:
    """The libraries' deterministic kernels: two runs then give the same bits."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
