"""The optimizer without first moments against torch's own, and what its state is called."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from sidlsg.distil.optimizer import SecondMomentAdam, make_optimizer, optimizer_tensors, set_learning_rate
from sidlsg.runtime.errors import InputError


def two_networks(dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 6)).to(dtype).to(memory_format=torch.channels_last))
    return made[0], made[1]


def give_gradients(*networks: nn.Module, seed: int) -> None:
    for network in networks:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offload", [False, True])
def test_the_bits_are_those_of_fused_adam(dtype: torch.dtype, offload: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidlsg.distil.optimizer.CHUNK_BYTES", 100)  # several parts
    ours, theirs = two_networks(dtype)
    lean = SecondMomentAdam(ours.parameters(), 1e-2, 1e-8, offload)
    stock = torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.0, 0.999), eps=1e-8, fused=True)
    for seed in range(7):
        give_gradients(ours, theirs, seed=seed)
        lean.step()
        stock.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(lean.state[a]["exp_avg_sq"], stock.state[b]["exp_avg_sq"])
    # And that with half of the state.
    assert sum(t.numel() for t in optimizer_tensors(lean, ours).values()) == 1 + sum(
        p.numel() for p in ours.parameters()
    )


def test_a_gradient_in_another_layout_is_the_same_gradient() -> None:
    ours, theirs = two_networks(torch.float32)
    for network in (ours, theirs):
        give_gradients(network, seed=3)
    first = next(ours.parameters())
    first.grad = first.grad.contiguous()  # type: ignore[union-attr]
    assert first.grad.stride() != first.stride()
    for network in (ours, theirs):
        SecondMomentAdam(network.parameters(), 1e-2).step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_overflow_skips_the_step_without_asking_the_device() -> None:
    network, _ = two_networks(torch.float32)
    optimizer = SecondMomentAdam(network.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu")
    before = [p.detach().clone() for p in network.parameters()]
    scaler.scale(torch.zeros(()))
    give_gradients(network, seed=0)
    next(network.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert float(optimizer.param_groups[0]["step"]) == 0
    assert scaler.get_scale() == 32768
    give_gradients(network, seed=0)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert float(optimizer.param_groups[0]["step"]) == 1
    assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_state_is_named_by_parameter_and_live() -> None:
    network, _ = two_networks(torch.float32)
    optimizer = make_optimizer("adam", network, 1e-2, 1e-8)
    tensors = optimizer_tensors(optimizer, network)
    assert sorted(tensors) == [
        "0.bias.exp_avg_sq",
        "0.weight.exp_avg_sq",
        "1.bias.exp_avg_sq",
        "1.weight.exp_avg_sq",
        "step.0",
    ]
    tensors["step.0"].fill_(41)
    give_gradients(network, seed=0)
    optimizer.step()
    assert float(optimizer_tensors(optimizer, network)["step.0"]) == 42


def test_the_learning_rate_is_that_of_the_next_step() -> None:
    network, _ = two_networks(torch.float32)
    optimizer = make_optimizer("adam", network, 1e-2, 1e-8)
    set_learning_rate(optimizer, 0.5)
    before = next(network.parameters()).detach().clone()
    give_gradients(network, seed=0)
    optimizer.step()
    moved = next(network.parameters()).detach() - before
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.5), rtol=1e-4, atol=0)


def test_eight_bits_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    network, _ = two_networks(torch.float32)
    with pytest.raises(InputError, match="needs torchao"):
        make_optimizer("adam8bit", network, 1e-2, 1e-8)


def test_eight_bits_start_with_state_and_follow_adam() -> None:
    pytest.importorskip("torchao.optim", reason="the extra 'lowbit' is not installed: pip install -e '.[lowbit]'")
    if shutil.which("g++") is None:
        pytest.skip("torchao compiles its step: apt-get install --no-install-recommends g++")
    networks = [nn.Linear(64, 128, bias=False) for _ in range(3)]
    networks[1].load_state_dict(networks[0].state_dict())
    start = networks[0].weight.detach().clone()
    quantised = make_optimizer("adam8bit", networks[0], 1e-3, 1e-8)
    exact = make_optimizer("adam", networks[1], 1e-3, 1e-8)
    assert torch.equal(start, networks[0].weight)
    tensors = optimizer_tensors(quantised, networks[0])
    assert {"weight.exp_avg_sq.codes", "weight.exp_avg_sq.scale", "weight.step"} <= tensors.keys()
    assert float(tensors["weight.step"]) == 0
    for seed in range(3):
        give_gradients(*networks[:2], seed=seed)
        quantised.step()
        exact.step()
    moved = [network.weight.detach() - start for network in networks[:2]]
    assert float((moved[0] - moved[1]).norm() / moved[1].norm()) < 0.1
    # What a checkpoint keeps of it is all that the next step needs.
    networks[2].load_state_dict(networks[0].state_dict())
    restored = make_optimizer("adam8bit", networks[2], 1e-3, 1e-8)
    for name, tensor in optimizer_tensors(restored, networks[2]).items():
        tensor.copy_(optimizer_tensors(quantised, networks[0])[name])
    give_gradients(networks[0], networks[2], seed=9)
    quantised.step()
    restored.step()
    assert torch.equal(networks[0].weight, networks[2].weight)
