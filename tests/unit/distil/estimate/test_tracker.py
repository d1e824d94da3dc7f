"""The tracker's counts on operations whose memory is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sidlsg.distil.estimate.fake_networks import ACTIVATIONS, GRADIENTS, WEIGHT_COPIES, FakeMode, StorageTracker

KIB = 1024


def test_live_bytes_rise_and_fall_and_the_peak_stays() -> None:
    with StorageTracker(nn.Identity()) as tracker:
        first = torch.ones(256)  # 1 KiB
        second = torch.ones(512)
        assert tracker.live[ACTIVATIONS] == 3 * KIB
        del second
        assert tracker.live[ACTIVATIONS] == KIB
        assert first[:10].sum() == 10  # a view allocates nothing
    assert tracker.peak[ACTIVATIONS] == 3 * KIB


def test_earlier_storages_are_not_counted_and_in_place_changes_add_none() -> None:
    x = torch.ones(256)
    with StorageTracker(nn.Identity()) as tracker:
        x.add_(1)
    assert tracker.peak[ACTIVATIONS] <= KIB  # found, for it was written to


def test_gradients_are_counted_apart() -> None:
    network = nn.Linear(16, 16, bias=False)
    tracker = StorageTracker(network)
    with tracker:
        network(torch.ones(1, 16)).sum().backward()
    assert tracker.live[GRADIENTS] == KIB
    network.zero_grad(set_to_none=True)
    assert tracker.live[GRADIENTS] == 0


def test_gradients_of_an_earlier_micro_batch_can_be_there_already() -> None:
    network = nn.Linear(16, 16, bias=False)
    tracker = StorageTracker(network)
    tracker.add_gradients()
    assert tracker.live[GRADIENTS] == KIB
    with tracker:
        network(torch.ones(1, 16)).sum().backward()
    assert tracker.live[GRADIENTS] == KIB
    assert tracker.peak[ACTIVATIONS] >= KIB  # the new gradient, before it is added


def test_autocasts_copies_of_weights_are_counted_apart() -> None:
    network = nn.Linear(16, 16, bias=False)
    tracker = StorageTracker(network, [network])
    with tracker, torch.autocast("cpu", torch.bfloat16):
        network(torch.ones(1, 16))
    assert tracker.peak[WEIGHT_COPIES] == KIB // 2


@pytest.mark.parametrize("groups", [1, 8])
def test_the_gradients_of_a_convolution_are_twice_its_work(groups: int) -> None:
    network, x = nn.Conv2d(8, 8, 3, padding=1, groups=groups), torch.ones(1, 8, 4, 4, requires_grad=True)
    with StorageTracker(network) as forward:
        out = network(x)
    with StorageTracker(network) as backward:
        out.sum().backward()
    assert (forward.flops, backward.flops) == (2 * 9 * 8 * 8 * 16 // groups, 2 * forward.flops)


def test_work_is_counted_by_products() -> None:
    with StorageTracker(nn.Identity()) as tracker:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert tracker.flops == 2 * 2 * 3 * 4


def test_attention_on_the_cpu_counts_as_on_a_gpu() -> None:
    q = torch.ones(1, 2, 8, 16)
    with StorageTracker(nn.Identity()) as tracker:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert tracker.flops == 2 * (2 * 2 * 8 * 8 * 16)


def test_the_host_reads_zero_from_tensors_without_values() -> None:
    with FakeMode(), StorageTracker(nn.Identity()):
        assert torch.ones(3, dtype=torch.long).tolist() == [0, 0, 0]
