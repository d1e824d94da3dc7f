"""The bundled teacher's training on a GPU beside the CPU's: gradients and losses.

Adam at β1 = 0 turns the sign of a gradient into a step, so rounding alone moves the weights of two runs apart as far as
they have come. So gradients are compared at one state, and runs by their losses; `test_recipe.py` compares students.
"""

from __future__ import annotations

import pytest
import torch

from gpu.training import CPU, Bundled, Training, distance
from sidlsg.distil.sampler import UPDATES

pytestmark = pytest.mark.gpu
ITERATIONS = 60
GRADIENT = {
    "fp32": {"fake_score": 1e-4, "generator": 1e-4},
    "tf32": {"fake_score": 1e-2, "generator": 5e-2},
    "fp16": {"fake_score": 1e-2, "generator": 1e-1},
    "bf16": {"fake_score": 5e-2, "generator": 5e-1},
}
"""Largest distance of a gradient to the CPU's in float32, as a share of its size. The generator's is the difference of
two predictions that are nearly alike, so rounding is a large part of it."""
LOSS = {"fake_score": 0.05, "generator": 0.25}
"""How far the mean loss over the last third of a run may be off, as a share of the mean of its size."""


def run(bundled: Bundled, device: torch.device, precision: str) -> dict[str, list[float]]:
    """Each loss over the last third of a run."""
    training = Training(bundled, device, precision=precision)
    losses: dict[str, list[float]] = {update: [] for update in UPDATES}
    for _ in range(ITERATIONS):
        for update, loss in training.iterate(observe=False).losses.items():
            losses[update].append(float(loss))
    return {update: row[-ITERATIONS // 3 :] for update, row in losses.items()}


@pytest.fixture(scope="module")
def on_cpu(bundled: Bundled) -> dict[str, list[float]]:
    torch.set_num_threads(4)  # nothing here must be bit-identical on the CPU
    try:
        return run(bundled, CPU, "fp32")
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("precision", list(GRADIENT))
@pytest.mark.parametrize("update", UPDATES)
def test_a_gradient_is_the_cpus(cuda: torch.device, bundled: Bundled, precision: str, update: str) -> None:
    loss, gradient = Training(bundled, CPU).part().gradient(update)
    found, its = Training(bundled, cuda, precision=precision).part().gradient(update)
    print(f"{precision} {update}: loss {abs(found / loss - 1):.1e}, gradient {distance(its, gradient):.1e} off")
    assert distance(its, gradient) < GRADIENT[precision][update]


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_runs_losses_are_the_cpus(
    cuda: torch.device, bundled: Bundled, on_cpu: dict[str, list[float]], precision: str
) -> None:
    losses = run(bundled, cuda, precision)
    off = {update: (sum(losses[update]) - sum(row)) / sum(abs(loss) for loss in row) for update, row in on_cpu.items()}
    print(f"{precision}: losses {', '.join(f'{update} {value:+.2%}' for update, value in off.items())} off")
    assert all(abs(off[update]) < LOSS[update] for update in UPDATES)


def test_a_sample_that_is_not_finite_leaves_the_loss(cuda: torch.device, bundled: Bundled) -> None:
    first = Training(bundled, CPU, batch=4).plan.draw(0, "generator", 0, 1).prompts[0]
    training = Training(bundled, cuda, batch=4, spoilt=[first])
    training.iterate()
    assert training.state.nan_samples > 0
    assert bool(torch.isfinite(training.weights("generator")).all())
