"""Evaluation's shared parts: the bundled judge, and the protocols on few images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.judge import Judge, load_judge
from sidlsg.bundled.protocols import DomainProtocols, load_domain_protocols
from sidlsg.bundled.shapes.captions import held_out_captions

COUNT = 96


@pytest.fixture(scope="session")
def judge_file(assets: Path) -> Path:
    return assets / "judge" / "judge.safetensors"


@pytest.fixture(scope="session")
def judge(judge_file: Path) -> Judge:
    return load_judge(judge_file, SHAPES)


@pytest.fixture(scope="session")
def held_out() -> list[str]:
    return [caption.text for caption in held_out_captions()]


@pytest.fixture(scope="session")
def protocols(held_out: list[str], judge_file: Path) -> DomainProtocols:
    """Every held-out caption once."""
    return load_domain_protocols(SHAPES, held_out, judge_file, COUNT)


@pytest.fixture
def load(judge_file: Path) -> Callable[[Sequence[str], int], DomainProtocols]:
    """Load protocols for other captions or counts."""
    return lambda texts, count: load_domain_protocols(SHAPES, texts, judge_file, count)
