"""Alarms on whole runs by the command line: sick ones are ended and told why, healthy ones are left alone.

`make test-all` runs these; two runs at a time, of one thread each. `-s` shows how far they are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from forked import Program

pytestmark = pytest.mark.long

HEALTHY = {
    "none": ("--strategy", "none"),
    "long2": ("--strategy", "long", "--scale", "kappa4=2"),
    "long3": ("--strategy", "long", "--scale", "kappa4=3"),
    "short": ("--strategy", "short", "--scale", "kappa_eval=0.5"),
    "lsg": (),
    "lsg1.5": ("--strategy", "lsg", "--kappa", "1.5"),
    "zero_cfg": ("--strategy", "zero_cfg"),
    "anti_cfg": ("--strategy", "anti_cfg"),
}
RUNS = [(name, 0) for name in HEALTHY] + [("lsg", 1), ("lsg", 2)]
"""By strategy and seed; several seeds of the default, for a false alarm is a matter of chance."""
CUSTOM = ("--scale", "kappa1=1.2", "--scale", "kappa2=1.2", "--scale", "kappa3=1.2", "--scale", "kappa4=50")
SICK = {
    "rate": (("--set", "lr=0.5", "--set", "fake_score_lr=0.5"), r"learning rate is too high \(.*0\.5"),
    "still": (("--set", "fake_score_lr=1e-30"), r"fake score is not updated: fake_score_lr = 1e-30"),
    "still-none": (
        ("--strategy", "none", "--set", "fake_score_lr=1e-30"),
        r"fake score is not updated: fake_score_lr = 1e-30",
    ),
    "still-long": (
        ("--strategy", "long", "--scale", "kappa4=2", "--set", "fake_score_lr=1e-30"),
        r"fake score is not updated: fake_score_lr = 1e-30",
    ),
    "kappa4": (("--strategy", "custom", *CUSTOM), r"guidance is too strong \(kappa4 = 50"),
    "long50": (("--strategy", "long", "--scale", "kappa4=50"), r"guidance is too strong \(kappa4 = 50"),
    "lsg50": (("--strategy", "lsg", "--kappa", "50"), r"guidance is too strong \(.*kappa4 = 50"),
}
IN_TIME = 100
"""Iterations within which a sick run must be noticed, and that a healthy one is watched for."""


@dataclass(frozen=True)
class Ended:
    """How a run's process ended."""

    code: int
    output: str


class Runs:
    """All runs, under way two at a time from the start on."""

    def __init__(self, folder: Path, assets: Path, prompts: Path) -> None:
        self.folder, self.assets, self.prompts = folder, assets, prompts
        self.pool = ThreadPoolExecutor(2)
        self.children: set[Program] = set()
        self.futures: dict[str, Future[Ended]] = {}

    def start(self, name: str, seed: int, *arguments: str) -> None:
        self.futures[f"{name}-{seed}"] = self.pool.submit(self._run, f"{name}-{seed}", seed, arguments)

    def __getitem__(self, name: str) -> Ended:
        return self.futures[name].result()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for child in self.children:
            child.terminate()
        self.pool.shutdown()

    def _run(self, name: str, seed: int, arguments: tuple[str, ...]) -> Ended:
        began = time.monotonic()
        command = ["distil", "--prompts", str(self.prompts)]
        command += ["--teacher", str(self.assets / "tiny-sd"), "--output", str(self.folder / name)]
        command += ["--checkpoints", str(self.folder / f"{name}-state"), "--seed", str(seed)]
        command += ["--set", "on_alarm=stop", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
        with Program(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as child:
            self.children.add(child)
            assert child.stdout
            output = child.stdout.read()
            child.wait()
            self.children.discard(child)
        left = sum(not future.done() for future in self.futures.values()) - 1
        seconds = time.monotonic() - began
        print(f"{name}: exit {child.returncode} after {seconds:.0f} s; {left} to go", file=sys.__stdout__, flush=True)
        return Ended(child.returncode, output)


@pytest.fixture(scope="module")
def prompts(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.prompts.rules import CurationRules
    from sidlsg.stages.curate import curate

    folder = tmp_path_factory.mktemp("alarms") / "prompts"
    held_out = read_held_out(assets / "prompts" / "held_out.txt")
    curate(assets / "prompts" / "prompts.parquet", folder, CurationRules(), held_out)
    return folder


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, assets: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs of the chosen tests, in their order."""
    runs = Runs(tmp_path_factory.mktemp("runs"), assets, prompts)
    for item in request.session.items:
        values = getattr(getattr(item, "callspec", None), "params", {})
        if item.path == request.path and "strategy" in values:
            length = ("--set", f"iterations={IN_TIME}")
            runs.start(values["strategy"], values["seed"], *length, *HEALTHY[values["strategy"]])
        elif item.path == request.path and "sickness" in values:
            runs.start(values["sickness"], 0, *SICK[values["sickness"]][0])
    yield runs
    runs.close()


@pytest.mark.parametrize("sickness", SICK)
def test_a_sick_run_is_ended_in_time_and_told_the_likely_cause(runs: Runs, sickness: str) -> None:
    ended = runs[f"{sickness}-0"]
    assert ended.code == 4, ended.output
    found = re.search(r"alarm at iteration (\d+): ", ended.output)
    assert found is not None, ended.output
    assert int(found[1]) <= IN_TIME
    assert re.search(SICK[sickness][1], ended.output), ended.output


@pytest.mark.parametrize(("strategy", "seed"), RUNS)
def test_a_healthy_run_is_left_alone(runs: Runs, strategy: str, seed: int) -> None:
    ended = runs[f"{strategy}-{seed}"]
    assert ended.code == 0, ended.output
    assert "alarm at iteration" not in ended.output
