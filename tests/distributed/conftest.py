"""Starts worker.py as one or several processes, and reads what they wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distributed.worker import first_unet
from forked import ranks, run_all
from sidlsg.teacher.pipeline import load_teacher

WORKER = Path(__file__).with_name("worker.py")
PATIENCE_S = 600


@dataclass(frozen=True)
class Outcome:
    """What a job gave."""

    numbers: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def losses(self) -> dict[int, list[float]]:
        """By iteration."""
        return {int(iteration): losses for iteration, losses in self.numbers["losses"].items()}


@dataclass
class Workers:
    """A folder in which jobs are done."""

    folder: Path

    def do(self, processes: int, *jobs: dict[str, Any]) -> list[Outcome]:
        """Do jobs one after another in so many processes."""
        named = [{"name": f"{processes}-{number}", **job} for number, job in enumerate(jobs)]
        done = run_all([json.dumps(named), str(self.folder)], ranks(processes), PATIENCE_S, file=WORKER)
        assert [each.returncode for each in done] == [0] * processes, "".join(each.stderr[-6000:] for each in done)
        return [
            Outcome(
                json.loads((self.folder / f"{job['name']}.json").read_text()),
                load_file(self.folder / f"{job['name']}.safetensors"),
            )
            for job in named
        ]

    def named(self, processes: int, jobs: dict[str, dict[str, Any]]) -> dict[str, Outcome]:
        """The same, by the jobs' names."""
        outcomes = self.do(processes, *({**job, "name": name} for name, job in jobs.items()))
        return dict(zip(jobs, outcomes, strict=True))


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    """For one test's jobs."""
    return Workers(tmp_path)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The L2 distance of two sets of weights."""
    assert one.keys() == other.keys()
    return float(torch.stack([(one[name].double() - other[name].double()).square().sum() for name in one]).sum().sqrt())


@pytest.fixture(scope="session")
def first_weights(assets: Path) -> dict[str, Tensor]:
    """The teacher's, from which students start."""
    weights: dict[str, Tensor] = first_unet(load_teacher(assets / "tiny-sd").network).state_dict()
    return weights
