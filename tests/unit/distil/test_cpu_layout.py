"""How training shares the CPUs: what settles it, what is measured, and when it is measured again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from sidlsg.distil import cpu_layout
from sidlsg.distil.cpu_layout import Layout, SlowdownDetector, best, candidates, choose_layout, fixed_layout, measure
from sidlsg.distil.recipes import Recipe, get_recipe, recipe_with_changes
from sidlsg.stages import distil as stage
from sidlsg.stages.distil import distil
from sidlsg.teacher.architectures import Architecture, stable_diffusion

ANY = stable_diffusion("any", {"cross_attention_dim": 1})
MANY, ONE = Layout(processes=4), Layout(threads=4)
SHORT = {"iterations": 4, "batch": 4, "micro_batch": 4, "grids": 0, "log_every": 1, "evaluate_every": 0}


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of four CPUs whose use is not settled."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cpu_layout, "cpu_quota", lambda: 4)
    monkeypatch.setattr(cpu_layout, "set_threads", lambda: 4)


@pytest.fixture
def recipe() -> Recipe:
    return get_recipe("tiny")


@pytest.fixture
def shape(make_unet: Callable[..., UNet2DConditionModel]) -> Architecture:
    return stable_diffusion("small", dict(make_unet().config))


def test_a_layout_in_words() -> None:
    assert str(Layout(processes=2)) == "2 processes of 1 thread each"
    assert str(Layout(threads=2)) == "1 process of 2 threads"


def test_the_recipe_settles_it_before_the_environment(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fixed_layout(recipe) is None
    assert fixed_layout(replace(recipe, processes=3)) == Layout(processes=3, threads=1)
    assert fixed_layout(replace(recipe, threads=3)) == Layout(processes=1, threads=3)
    assert fixed_layout(replace(recipe, processes=2, threads=2)) == Layout(processes=2, threads=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert fixed_layout(recipe) == Layout(threads=4)
    assert fixed_layout(replace(recipe, processes=2)) == Layout(processes=2)


def test_gpus_torchrun_and_a_single_cpu_leave_no_choice(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        assert fixed_layout(replace(recipe, processes=2)) == Layout(threads=4)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        assert fixed_layout(recipe) == Layout(threads=4)
        assert fixed_layout(replace(recipe, threads=1)) == Layout(threads=1)
    monkeypatch.setattr(cpu_layout, "cpu_quota", lambda: 1)
    assert fixed_layout(recipe) is not None


def test_candidates_are_as_many_processes_as_cpus_memory_and_batch_allow(
    recipe: Recipe, shape: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert candidates(shape, recipe, 4) == [MANY, ONE]
    assert candidates(shape, replace(recipe, batch=6), 4) == [Layout(processes=3, threads=1), ONE]
    monkeypatch.setattr(cpu_layout, "host_memory", lambda processes: 10**9 if processes < 3 else 10)
    assert candidates(shape, recipe, 4) == [Layout(processes=2, threads=2), ONE]
    monkeypatch.setattr(cpu_layout, "host_memory", lambda processes: 10)  # noqa: ARG005
    assert candidates(shape, recipe, 4) == [ONE]


def test_processes_are_taken_unless_threads_are_clearly_faster_each_time() -> None:
    assert best([MANY, ONE], [{MANY: 100, ONE: 50}] * 2) == MANY
    assert best([MANY, ONE], [{MANY: 100, ONE: 110}] * 2) == MANY
    assert best([MANY, ONE], [{MANY: 100, ONE: 200}, {MANY: 100, ONE: 90}]) == MANY
    assert best([MANY, ONE], [{MANY: 100, ONE: 200}] * 2) == ONE
    assert best([MANY, ONE], [{MANY: 100}] * 2) == MANY
    assert best([MANY, ONE], [{}, {}]) == ONE


def test_layouts_are_measured_in_separate_processes(
    shape: Architecture, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu_layout, "MEASURED_S", 0.05)
    threads = torch.get_num_threads()
    rates = measure(shape, [Layout(processes=2), Layout(threads=2)], micro_batch=2, batch=4)
    assert all(rates[each] > 0 for each in (Layout(processes=2), Layout(threads=2)))
    assert torch.get_num_threads() == threads
    with monkeypatch.context() as patch:
        patch.setattr(cpu_layout, "PATIENCE_S", 0.0)
        assert measure(shape, [Layout(processes=2)], micro_batch=2, batch=4) == {}
    capfd.readouterr()
    assert measure(replace(shape, config={**shape.config, "sample_size": -1}), [Layout()], micro_batch=2, batch=4) == {}
    assert "RuntimeError" in capfd.readouterr().err


def test_the_choice_is_reported_in_one_line(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(cpu_layout, "measure", lambda *_: {MANY: 100.0, ONE: 40.0})
    assert choose_layout([MANY, ONE], ANY, recipe, lines.append) == MANY
    monkeypatch.setattr(cpu_layout, "measure", lambda *_: {})
    assert choose_layout([MANY, ONE], ANY, recipe, lines.append) == ONE
    assert choose_layout([ONE], ANY, recipe, lines.append) == ONE
    assert lines == [
        "training uses 4 processes of 1 thread each; forward and backward passes measured: "
        "100 images/s as 4 processes of 1 thread each, 40 images/s as 1 process of 4 threads",
        "training uses 1 process of 4 threads",
        "training uses 1 process of 4 threads",
    ]


def test_a_rate_must_stay_low_before_the_machine_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(cpu_layout.time, "monotonic", lambda: now[0])
    detector = SlowdownDetector(share=0.4, patience_s=30, pause_s=300)

    def at(seconds: float, rate: float) -> bool:
        now[0] = 1000 + seconds
        return detector({"images_per_second": rate})

    assert not at(0, 50)
    assert not at(5, 10)  # an evaluation
    assert not at(36, 45)
    assert not at(40, 12)
    assert not at(60, 15)
    assert at(70, 15)
    assert (detector.best, detector.now) == (50, 15)
    detector.begin()
    assert not at(80, 15)  # the rate of a busier machine is no fall
    assert not at(200, 14)
    assert not at(210, 4)
    assert not at(300, 4)  # soon after the last time
    assert at(371, 4)


@pytest.fixture
def train(assets: Path, tiny_student: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Train for a few iterations; gives the lines that were reported."""

    def run(name: str, checkpoints: str = "", **changes: Any) -> list[str]:
        lines: list[str] = []
        values = recipe_with_changes("tiny", json.dumps(SHORT | {"on_alarm": "off"} | changes))
        prompts = tiny_student.parent / "prompts"
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        kept = tmp_path / (checkpoints or f"{name}-state")
        distil(prompts, assets / "tiny-sd", tmp_path / name, values, 0, kept, lines.append)
        torch.set_num_threads(1)
        return lines

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_forks_make_the_student_of_one_process_and_another_layout_continues_and_is_reported(
    train: Callable[..., list[str]], tmp_path: Path
) -> None:
    train("one", processes=1, iterations=2)
    train("two", processes=2, iterations=2)
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(ours[key], theirs[key], atol=2e-3) for key in ours)
    lines = train("three", "one-state", processes=2, iterations=2)
    assert any("continues from" in line for line in lines)
    said = "the run used 1 process of 1 thread before and uses 2 processes of 1 thread each now"
    assert sum(said in line for line in lines) == 1


@pytest.fixture
def slow_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is much slower from its second iteration on, once."""
    real, slowed = SlowdownDetector.__call__, []

    def slow(self: SlowdownDetector, row: dict[str, float]) -> bool:
        real(self, row)
        if row["iteration"] == 2 and not slowed:
            slowed.append(row)
            return True
        return False

    monkeypatch.setattr(SlowdownDetector, "__call__", slow)


@pytest.mark.usefixtures("slow_once")
def test_a_run_that_became_slow_is_measured_again_and_continues_to_the_same_bits(
    train: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("whole", processes=1)
    monkeypatch.setattr(cpu_layout, "measure", lambda *_: {Layout(processes=1): 10.0})
    monkeypatch.setattr(stage, "candidates", lambda *_: [Layout(processes=1), Layout(threads=2)])
    lines = train("slowed")
    assert sum(line.startswith("training slowed from ") for line in lines) == 1
    assert sum("continues from" in line and "iteration 2 of 4" in line for line in lines) == 1
    assert sum(line.startswith("training uses 1 process of 1 thread") for line in lines) == 2
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "slowed")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.usefixtures("slow_once")
@pytest.mark.long
def test_after_threads_nothing_is_measured(train: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork of a process with a pool of threads would wait for them for ever."""
    measured: list[object] = []

    def measure(*given: object) -> dict[Layout, float]:
        measured.append(given)
        return {Layout(processes=2): 10.0, Layout(threads=2): 100.0}

    monkeypatch.setattr(cpu_layout, "measure", measure)
    monkeypatch.setattr(stage, "candidates", lambda *_: [Layout(processes=2), Layout(threads=2)])
    lines = train("threads")
    assert [line.partition(";")[0] for line in lines if line.startswith("training uses")] == [
        "training uses 1 process of 2 threads",
        "training uses 2 processes of 1 thread each",
    ]
    assert len(measured) == cpu_layout.ROUNDS


def test_a_run_with_nothing_to_choose_is_never_measured_again(
    train: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlowdownDetector, "__call__", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(stage, "candidates", lambda *_: [Layout()])
    assert not any("slowed" in line for line in train("one"))
