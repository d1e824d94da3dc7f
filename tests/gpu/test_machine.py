"""What changes how the GPU is used changes nothing of what is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu.training import Bundled, Training, distance
from sidlsg.distil.sampler import UPDATES

pytestmark = pytest.mark.gpu
ITERATIONS = 4


def trained(bundled: Bundled, device: torch.device, **settings: Any) -> Training:
    training = Training(bundled, device, **settings)
    for _ in range(ITERATIONS):
        training.iterate()
    return training


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("offload", ["optimizer_offload", "ema_offload"])
def test_what_lives_in_the_hosts_memory_has_the_same_bits(cuda: torch.device, bundled: Bundled, offload: str) -> None:
    plain, moved = trained(bundled, cuda), trained(bundled, cuda, **{offload: True})
    assert torch.equal(plain.weights("generator"), moved.weights("generator"))
    assert torch.equal(plain.weights("fake_score"), moved.weights("fake_score"))
    # The host's average rounds in its own way.
    assert distance(moved.weights("ema"), plain.weights("ema")) < 1e-6


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("update", UPDATES)
def test_activations_that_are_computed_again_give_the_same_gradient(
    cuda: torch.device, bundled: Bundled, update: str
) -> None:
    _, kept = Training(bundled, cuda).part().gradient(update)
    _, again = Training(bundled, cuda, activation_checkpointing=True).part().gradient(update)
    assert distance(again, kept) < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_blocks_give_the_same_gradient(cuda: torch.device, bundled: Bundled, precision: str) -> None:
    plain = Training(bundled, cuda, precision=precision).part()
    compiled = Training(bundled, cuda, precision=precision, compile=True).part()
    assert compiled.state.compiled
    for update in UPDATES:
        (_, theirs), (_, ours) = plain.gradient(update), compiled.gradient(update)
        print(f"{precision} {update}: compiled {distance(ours, theirs):.1e} off")
        assert distance(ours, theirs) < {"fp32": 1e-4, "bf16": 1e-1}[precision]
