"""The sum of a run's memory by its settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sidlsg.distil.estimate.fake_networks import ACTIVATIONS, GRADIENTS, WEIGHT_COPIES
from sidlsg.distil.estimate.iteration import IterationNeeds
from sidlsg.distil.estimate.memory import CACHED_EMBEDDINGS, CONTEXT, Network, Use
from sidlsg.distil.recipes import Settings
from sidlsg.teacher.architectures import stable_diffusion

N = 1000
NETWORK = Network(parameters=N, block=100, trained=N)


def passes(activations: int = 10_000, more: int = 30_000) -> IterationNeeds:
    def peak(size: int) -> dict[str, int]:
        return {ACTIVATIONS: size, GRADIENTS: 4 * N, WEIGHT_COPIES: 2 * N}

    return IterationNeeds(small=peak(activations), large=peak(more), micro_batch=3, flops=2)


def use(world_size: int = 1, gpu: bool = True, text_encoder: int = 0, **settings: Any) -> Use:
    return Use(
        network=NETWORK, settings=Settings(**settings), world_size=world_size, gpu=gpu, text_encoder=text_encoder
    )


@pytest.mark.parametrize(
    ("settings", "teacher", "ema", "optimizer"),
    [
        ({}, 4 * N, 4 * N, 8 * N),
        ({"precision": "tf32"}, 4 * N, 4 * N, 8 * N),
        ({"precision": "bf16"}, 2 * N, 4 * N, 8 * N),
        ({"ema_offload": True}, 4 * N, 0, 8 * N),
        ({"optimizer_offload": True}, 4 * N, 4 * N, 0),
        ({"optimizer": "adam8bit"}, 4 * N, 4 * N, round(4 * N * (1 + 4 / 256))),
    ],
)
def test_persistent_parts(settings: dict[str, Any], teacher: int, ema: int, optimizer: int) -> None:
    parts = use(**settings).persistent()
    assert (parts["teacher"], parts["EMA"], parts["optimizer states"]) == (teacher, ema, optimizer)
    assert parts["generator"] == parts["fake score"] == 4 * N


def test_of_adapters_their_own_parameters_count_and_the_network_once() -> None:
    network = dataclasses.replace(NETWORK, trained=N // 10)
    settings = Settings(adapter={"rank": 4}, precision="bf16")
    parts = Use(network=network, settings=settings).persistent()
    own = 4 * N // 10
    assert parts == {
        "teacher": 2 * N,
        "generator": own,
        "fake score": own,
        "EMA": own,
        "optimizer states": 2 * own,
    }
    passes_of_two = Use(network=network, settings=settings, world_size=2).at(passes(), 1)
    assert passes_of_two["gradients"] == 2 * own


def test_on_the_cpu_offloading_moves_nothing() -> None:
    moved = use(gpu=False, ema_offload=True, optimizer_offload=True).persistent()
    assert moved == use(gpu=False).persistent()


@pytest.mark.parametrize(
    ("world_size", "settings", "host"),
    [
        (1, {}, 20 * N),
        (1, {"ema_offload": True}, 24 * N),
        (1, {"optimizer_offload": True, "ema_offload": True}, 32 * N),
        (2, {}, 40 * N),
        (2, {"parallel": "fsdp"}, 20 * N),
    ],
)
def test_the_host_holds_the_copies_for_checkpoints_and_what_is_offloaded(
    world_size: int, settings: dict[str, Any], host: int
) -> None:
    assert use(world_size, **settings).host == host


def test_a_text_encoder_caches_embeddings() -> None:
    assert use(text_encoder=10).persistent()["text encoder and embeddings"] == 40 + CACHED_EMBEDDINGS
    assert "text encoder and embeddings" not in use().persistent()


def test_ddp_keeps_both_networks_gradients() -> None:
    assert use().at(passes(), 1)["gradients"] == 4 * N
    assert use(world_size=2).at(passes(), 1)["gradients"] == 8 * N


def test_fsdp_shards_persistent_parts_and_gathers_blocks() -> None:
    parts = use(world_size=4, parallel="fsdp", precision="bf16").at(passes(), 1)
    assert (parts["generator"], parts["teacher"], parts["gradients"]) == (N, N // 2, N)
    assert parts["gathered blocks"] == (2 * 2 + 4) * 100
    assert "weight copies" not in parts


def test_activations_lie_on_a_line_and_the_gpu_takes_some_for_itself() -> None:
    on_cpu = use(gpu=False).at(passes(), 2)
    assert on_cpu["activations"] == 20_000
    on_gpu = use().at(passes(), 2)
    assert on_gpu["context, workspaces"] == CONTEXT + round(0.05 * (20_000 + 2 * N))


def test_the_largest_micro_batch_fits_and_one_more_does_not() -> None:
    one = use(gpu=False)
    need = sum(one.at(passes(), 7).values())
    assert one.largest_micro_batch(passes(), need, 64) == 7
    assert one.largest_micro_batch(passes(), need - 1, 64) == 6
    assert one.largest_micro_batch(passes(), need, 5) == 5
    assert one.largest_micro_batch(passes(), sum(one.at(passes(), 1).values()) - 1, 64) == 0


def test_a_networks_size_and_its_largest_block(make_unet: Any) -> None:
    unet = make_unet()
    network = Network.of(stable_diffusion("small", unet.config))
    assert network.parameters == sum(p.numel() for p in unet.parameters())
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    assert network.block == max(sum(p.numel() for p in block.parameters()) for block in blocks)
    assert dataclasses.astuple(network) > (0, 0)
