"""Both benchmarks at their smallest, as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as for the scripts themselves

import tiny_cpu  # noqa: E402
from sd15_gpu import flops_per_image  # noqa: E402

from sidlsg.teacher.architectures import ARCHITECTURES  # noqa: E402
from sidlsg.teacher.pipeline import load_teacher  # noqa: E402


def test_the_standin_computes_our_losses() -> None:
    teacher = load_teacher(ROOT / "assets" / "tiny-sd")
    assert tiny_cpu.check_same_losses(teacher, tiny_cpu.read_texts(), batch=4, iterations=2) < tiny_cpu.TOLERANCE


def test_a_standin_that_computes_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load_teacher(ROOT / "assets" / "tiny-sd")
    real = tiny_cpu.new_standin

    def other(*args: object) -> object:
        way = real(*args)  # type: ignore[arg-type]
        way.kappa = 1.21
        return way

    monkeypatch.setattr(tiny_cpu, "new_standin", other)
    with pytest.raises(SystemExit, match="losses differ"):
        tiny_cpu.check_same_losses(teacher, tiny_cpu.read_texts(), batch=2, iterations=1)


def test_sd15_costs_what_is_published() -> None:
    # TFLOP an image under LSG: docs/method.md.
    assert flops_per_image(dict(ARCHITECTURES["sd15"].config)) == pytest.approx(14.9e12, rel=0.005)


@pytest.mark.long
def test_the_gpu_benchmark_runs_small_on_any_machine(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "sd15_gpu.py", "--small", "--batch", "1", "--micro-batch", "1"]
    command += ["--standin-micro-batch", "1", "--precision", "fp32", "--checkpointing", "off", "--output", tmp_path]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=300)
    (written,) = tmp_path.glob("sd15_small_*.json")
    ours, standin = json.loads(written.read_text())["rows"]
    assert (ours["way"], standin["way"]) == ("ours", "stand-in")
    assert ours["images_per_second"] > 0
    # The stand-in's text states are not rounded to float16.
    for name, loss in ours["first_losses"].items():
        assert loss == pytest.approx(standin["first_losses"][name], rel=1e-3)
    assert written.with_suffix(".md").read_text().count("| ours |") == 1
