"""The bundled teacher's training on a GPU beside the CPU's: gradients, losses and the student, in each precision.

Adam at β1 = 0 turns the sign of a gradient into a step, so rounding alone moves runs apart; gradients are compared
closely, runs by how far apart they are at the end beside how far they have come.
"""

from __future__ import annotations

import pytest
import torch

from gpu.training import CPU, Bundled, Training, distance
from sidlsg.distil.draws import UPDATES

pytestmark = pytest.mark.gpu
ITERATIONS = 60
GRADIENT = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 2e-2, "bf16": 1e-1}
"""Largest distance of a gradient to the CPU's in float32, as a share of its size."""
APART = {"fp32": 0.25, "tf32": 0.35, "fp16": 0.35, "bf16": 0.5}
"""How far the students may be apart, as a share of how far they are from the teacher."""
LOSS = 0.15
"""How far the mean loss over the last third of a run may be off, as a share of the mean of its size."""


def run(bundled: Bundled, device: torch.device, precision: str) -> tuple[Training, dict[str, list[float]]]:
    """A run, and each loss over its last third."""
    training = Training(bundled, device, precision=precision)
    losses: dict[str, list[float]] = {update: [] for update in UPDATES}
    for _ in range(ITERATIONS):
        for update, loss in training.iterate(observe=False).losses.items():
            losses[update].append(float(loss))
    return training, {update: row[-ITERATIONS // 3 :] for update, row in losses.items()}


@pytest.fixture(scope="module")
def on_cpu(bundled: Bundled) -> tuple[Training, dict[str, list[float]]]:
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
    assert found == pytest.approx(loss, rel=GRADIENT[precision])
    assert distance(its, gradient) < GRADIENT[precision]


@pytest.mark.parametrize("precision", list(GRADIENT))
def test_a_run_ends_where_the_cpus_does(
    cuda: torch.device, bundled: Bundled, on_cpu: tuple[Training, dict[str, list[float]]], precision: str
) -> None:
    theirs, their_losses = on_cpu
    ours, losses = run(bundled, cuda, precision)
    start = torch.cat([p.detach().flatten() for p in bundled.teacher.unet.parameters()])
    apart = float((ours.weights() - theirs.weights()).norm() / (theirs.weights() - start).norm())
    off = {
        update: (sum(losses[update]) - sum(row)) / sum(abs(loss) for loss in row)
        for update, row in their_losses.items()
    }
    print(f"{precision}: students {apart:.3f} apart, losses {', '.join(f'{u} {o:+.2%}' for u, o in off.items())}")
    assert apart < APART[precision]
    assert all(abs(value) < LOSS for value in off.values())


def test_an_iteration_makes_the_host_wait_for_its_notice_alone(cuda: torch.device, bundled: Bundled) -> None:
    training = Training(bundled, cuda)
    training.iterate(observe=False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.iterate(observe=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_sample_that_is_not_finite_leaves_the_loss(cuda: torch.device, bundled: Bundled) -> None:
    (first,) = {Training(bundled, CPU, batch=4).plan.draw(0, "generator", 0, 1).prompts[0]}
    training = Training(bundled, cuda, batch=4, spoilt=[first])
    training.iterate()
    assert training.state.nan_samples > 0
    assert bool(torch.isfinite(training.weights("generator")).all())
