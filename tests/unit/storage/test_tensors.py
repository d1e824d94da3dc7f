"""Tensors and optimizer states through files, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import (
    load_optimizer_tensors,
    load_tensors,
    optimizer_tensors,
    save_tensors,
    with_prefix,
    without_prefix,
)

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


class Network(nn.Module):
    """A convolution in channels-last memory and a scalar parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.convolution(x)


def new_network(seed: int) -> Network:
    torch.manual_seed(seed)
    return Network().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        network(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5, dtype=torch.float64),
        torch.arange(12).reshape(3, 4).t(),
        torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        torch.randn(5).half(),
        torch.tensor([float("nan"), float("inf")]),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
    ],
)
def test_a_tensor_comes_back(tmp_path: Path, tensor: torch.Tensor) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a.b": tensor}, {})
    found = load_tensors(tmp_path / "x.safetensors")[0]["a.b"]
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(torch.nan_to_num(found.double()), torch.nan_to_num(tensor.double()))


def test_counters_come_back_and_shared_memory_is_no_obstacle(tmp_path: Path) -> None:
    tensor = torch.randn(4, requires_grad=True)
    counters = {"iteration": 3, "log": [{"loss": 0.1}], "name": "κ"}
    save_tensors(tmp_path / "x.safetensors", {"one": tensor, "same": tensor, "part": tensor[1:3]}, counters)
    tensors, found = load_tensors(tmp_path / "x.safetensors")
    assert found == counters
    assert torch.equal(tensors["same"], tensor.detach())
    assert torch.equal(tensors["part"], tensor.detach()[1:3])


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_refused_with_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)}, {"n": 1})
    path.write_bytes({"cut": path.read_bytes()[:2000], "empty": b"", "text": b"not tensors at all"}[damage])
    with pytest.raises(InputError, match="not a readable safetensors file") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        load_tensors(tmp_path / "none")


@pytest.mark.parametrize(
    "counters", ["[]", "3", "null", '"a"', "{", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "1" * 500]
)
def test_counters_of_another_form_are_refused_with_one_line(tmp_path: Path, counters: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"x": torch.zeros(2)}, metadata={"counters": counters}))
    with pytest.raises(InputError, match=r"a\.safetensors is not a readable safetensors file \(.*\); delete") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)


def test_prefixes_are_added_and_removed() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    named = with_prefix("model", {"x": a, "y.z": b}) | with_prefix("model2", {"x": b})
    assert set(named) == {"model.x", "model.y.z", "model2.x"}
    assert without_prefix("model", named) == {"x": a, "y.z": b}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_resumes_exactly_from_its_file(tmp_path: Path, kind: str) -> None:
    network = new_network(0)
    optimizer: Any = OPTIMIZERS[kind](network.parameters())
    take_steps(network, optimizer, range(3))
    save_tensors(tmp_path / "o.safetensors", optimizer_tensors(optimizer), {})

    resumed = copy.deepcopy(network)
    other: Any = OPTIMIZERS[kind](resumed.parameters())
    load_optimizer_tensors(other, load_tensors(tmp_path / "o.safetensors")[0])
    assert optimizer_tensors(other).keys() == optimizer_tensors(optimizer).keys()
    take_steps(network, optimizer, range(3, 6))
    take_steps(resumed, other, range(3, 6))
    for mine, theirs in zip(network.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    # Momenta have the layout of their parameters, which fused steps walk in memory order.
    for parameter in resumed.parameters():
        for value in other.state[parameter].values():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                assert value.stride() == parameter.stride()


def test_the_learning_rate_stays_the_optimizers_own() -> None:
    network = new_network(1)
    first = torch.optim.AdamW(network.parameters(), lr=1e-2)
    take_steps(network, first, range(1))
    second = torch.optim.AdamW(network.parameters(), lr=5e-3)
    load_optimizer_tensors(second, optimizer_tensors(first))
    assert second.param_groups[0]["lr"] == 5e-3
