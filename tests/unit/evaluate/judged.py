"""Evaluation's shared parts: the bundled judge, and the protocols on few images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sidlsg.bundled.captions import held_out_captions
from sidlsg.bundled.judge import Judge, load_judge
from sidlsg.bundled.protocols import ShapesProtocols, load_shapes_protocols

COUNT = 96


@pytest.fixture(scope="session")
def judge_file(assets: Path) -> Path:
    return assets / "judge" / "judge.safetensors"


@pytest.fixture(scope="session")
def judge(judge_file: Path) -> Judge:
    return load_judge(judge_file)


@pytest.fixture(scope="session")
def held_out() -> list[str]:
    return [caption.text for caption in held_out_captions()]


@pytest.fixture(scope="session")
def protocols(held_out: list[str], judge_file: Path) -> ShapesProtocols:
    """Every held-out caption once."""
    return load_shapes_protocols(held_out, judge_file, COUNT)


@pytest.fixture
def load(judge_file: Path) -> Callable[[Sequence[str], int], ShapesProtocols]:
    """Load protocols for other captions or counts."""
    return lambda texts, count: load_shapes_protocols(texts, judge_file, count)
