"""The fake iteration against real ones, whose memory PyTorch's profiler counts."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from sidlsg.distil import networks as precision
from sidlsg.distil.estimate.fake_networks import FakeMode, StorageTracker, fake_network
from sidlsg.distil.estimate.iteration import FakeIteration, measure
from sidlsg.distil.estimate.memory import Network, Use
from sidlsg.distil.losses import Method
from sidlsg.distil.recipes import Recipe, get_recipe
from sidlsg.distil.sampler import DrawPlan
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import train_step
from sidlsg.teacher.architectures import ARCHITECTURES, Architecture, architecture_of
from sidlsg.teacher.conditioning import of_shapes
from sidlsg.teacher.schedule import NoiseSchedule


def schedule(prediction_type: str = "epsilon") -> NoiseSchedule:
    return NoiseSchedule(torch.linspace(0.999, 0.005, 1000, dtype=torch.float64), prediction_type)


def texts(width: int) -> Any:
    def encode(_: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(replaced), 77, width), torch.zeros(1, 77, width)

    return encode


def plan(batch: int, size: int) -> DrawPlan:
    return DrawPlan(seed=0, batch=batch, prompt_count=batch, latent_shape=(4, size, size), prompt_dropout=0.1)


@pytest.mark.parametrize("gpu", [True, False])
def test_fake_attention_has_the_precision_of_the_device(
    small: Architecture, gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU's is float32, a GPU's that of the products."""
    seen = set()
    widened = precision._Float32Attention.__torch_function__

    def noted(mode: Any, func: Any, *rest: Any) -> Any:
        seen.add(func)
        return widened(mode, func, *rest)

    monkeypatch.setattr(precision._Float32Attention, "__torch_function__", noted)
    recipe = dataclasses.replace(get_recipe("tiny"), precision="bf16")
    FakeIteration(small, recipe, recipe.settings, gpu).run("generator", 1, accumulated=False)
    assert (torch.nn.functional.scaled_dot_product_attention in seen) is not gpu


@pytest.mark.long
@pytest.mark.parametrize("noise", ["fixed", "fresh", "ddim"])
def test_several_steps_take_forward_passes_alone(small: Architecture, noise: str) -> None:
    """(K - 1)/2 more in each of two updates: 3 at K = 4; and no memory, but for some latents."""
    shape, one = small, get_recipe("tiny")
    few = dataclasses.replace(one, steps=4, step_noise=noise)
    size, width = shape.config["sample_size"], shape.config["cross_attention_dim"]
    with FakeMode(), torch.no_grad():
        unet = fake_network(shape, gpu_norms=False)
        with StorageTracker(unet) as forward:
            unet(torch.empty(1, 4, size, size), torch.empty(1, dtype=torch.long), torch.empty(1, 77, width))
    needs = [measure(shape, recipe, recipe.settings, accumulated=False, gpu=True) for recipe in (one, few)]
    assert needs[1].flops - needs[0].flops == pytest.approx(3 * forward.flops, rel=1e-6)
    peaks = [sum(each.peak(8).values()) for each in needs]
    assert peaks[0] <= peaks[1] < 1.02 * peaks[0]


def real_peak(config: Mapping[str, Any], recipe: Recipe) -> int:
    """Bytes at the peak of a real iteration: every tensor that is there before, and the allocator's events after."""
    before = live_bytes()
    teacher = UNet2DConditionModel.from_config(config).eval()
    state = TrainingState.start(teacher, 1e-4, 1e-4, settings=recipe.settings)
    method = Method(teacher=state.frozen(teacher), schedule=schedule(), guidance=recipe.guidance)
    draws = plan(recipe.batch, config["sample_size"])
    encode = texts(config["cross_attention_dim"])

    def iterate() -> None:
        train_step(state, method, draws, encode, recipe.micro_batch, recipe.ema_half_life)

    iterate()  # the first one fills caches
    gc.collect()
    standing = live_bytes() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        iterate()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return standing + highest


def live_bytes() -> int:
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if isinstance(item, Tensor) and type(item) in (Tensor, torch.nn.Parameter):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize(
    ("name", "batch", "micro_batch", "checkpointing"),
    [
        ("tiny", 16, 16, True),
        *(pytest.param("tiny_lora", 16, *each, marks=pytest.mark.long) for each in ((16, True), (8, False))),
        *(pytest.param("tiny", *each, False, marks=pytest.mark.long) for each in ((16, 16), (64, 64), (64, 16))),
    ],
)
def test_the_estimate_of_tiny_is_within_a_tenth_of_a_real_iteration(
    tiny: Architecture, name: str, batch: int, micro_batch: int, checkpointing: bool
) -> None:
    recipe = dataclasses.replace(
        get_recipe(name), batch=batch, micro_batch=micro_batch, activation_checkpointing=checkpointing
    )
    passes = measure(tiny, recipe, recipe.settings, accumulated=batch > micro_batch, gpu=False)
    use = Use(network=Network.of(tiny, recipe.lora), settings=recipe.settings, gpu=False)
    estimated = sum(use.at(passes, micro_batch).values())
    assert estimated == pytest.approx(real_peak(tiny.config, recipe), rel=0.1)


BLOCKS = {
    *("JointTransformerBlock", "SanaTransformerBlock", "FluxTransformerBlock", "FluxSingleTransformerBlock"),
    *("DownBlock2D", "CrossAttnDownBlock2D", "UNetMidBlock2DCrossAttn", "CrossAttnUpBlock2D", "UpBlock2D"),
}
# Of the true networks: parameters, TFLOP of one forward pass and of an iteration (algorithm's count, by PyTorch's
# FlopCounterMode with plain attention; the attention that trains computes some of it again, going back).
TRUE = {"sd15": (859_520_964, 0.803, 14.9), "sd21_base": (865_910_724, 0.804, 14.9), "sd21": (865_910_724, 2.149, 41.1)}
SLOW = [pytest.param(name, marks=[pytest.mark.long] if name.startswith("sd21") else [], id=name) for name in TRUE]
# Of other families, as published: parameters.
OTHERS = {
    "sdxl": 2_567_463_684,
    "sd3_medium": 2_028_328_000,
    "sd35_medium": 2_243_171_520,
    "sd35_large": 8_056_627_520,
    "sana_600m": 591_747_872,
    "sana_1600m": 1_604_462_752,
    "flux_dev": 11_901_408_320,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_true_networks_have_their_parameters(name: str) -> None:
    assert Network.of(ARCHITECTURES[name]).parameters == {**OTHERS, **{each: TRUE[each][0] for each in TRUE}}[name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name in {"sd35_medium", "sd35_large", "sana_1600m"}))
        for name in OTHERS
    ],
)
def test_a_forward_pass_of_a_true_network_of_another_family_keeps_the_latents_shape(name: str) -> None:
    shape = ARCHITECTURES[name]
    with FakeMode(), torch.no_grad():
        network = fake_network(shape, gpu_norms=False)
        x = torch.empty(2, *shape.family.latent_shape(shape.config))
        out = shape.family.takes(network)(x, torch.empty(2), of_shapes(shape.conditioning, 2)).sample
    assert out.shape == x.shape
    wanted = {"sdxl": (4, 128, 128), "sana_600m": (32, 32, 32), "sana_1600m": (32, 32, 32)}
    assert x.shape[1:] == wanted.get(name, (16, 128, 128))


@pytest.mark.long
@pytest.mark.parametrize(
    "recipe",
    [
        *("sdxl_4step", "sdxl_lora", "sd3_medium_4step", "sd35_medium_4step", "sd35_large_lora"),
        *("sana_600m_4step", "sana_1600m_4step", "flux_dev_lora"),
    ],
)
def test_a_full_iteration_of_another_family_runs_at_the_true_size(recipe: str) -> None:
    """Both updates, their optimizer steps and the EMA: every tensor keeps its name, shape and dtype."""
    values = dataclasses.replace(get_recipe(recipe), batch=2, micro_batch=1)
    shape = architecture_of(recipe)
    iteration = FakeIteration(shape, values, values.settings, gpu=True)
    state = iteration.state
    before = {key: (value.shape, value.dtype) for key, value in state.tensors().items()}
    with iteration.mode, StorageTracker(state.generator):
        train_step(state, iteration.method, iteration.plan(2, 4), iteration.encode, 1, values.ema_half_life)
    assert {key: (value.shape, value.dtype) for key, value in state.tensors().items()} == before
    assert {dtype for _, dtype in before.values()} == {torch.float32}
    assert {type(block).__name__ for block in shape.family.sharded(state.generator)} <= BLOCKS


@pytest.mark.parametrize("name", SLOW)
def test_a_forward_pass_of_a_true_unet_does_the_known_work(name: str) -> None:
    config = ARCHITECTURES[name].config
    size = config["sample_size"]
    with FakeMode(), torch.no_grad():
        unet = fake_network(ARCHITECTURES[name], gpu_norms=False)
        tracker = StorageTracker(unet)
        with tracker:
            out = unet(torch.empty(1, 4, size, size), 0, torch.empty(1, 77, config["cross_attention_dim"])).sample
    assert out.shape == (1, 4, size, size)
    assert tracker.flops / 1e12 == pytest.approx(TRUE[name][1], abs=0.001)


@pytest.mark.long
def test_a_full_iteration_of_adapters_runs_at_the_true_size() -> None:
    """Adapters in float32, moments and EMA included, are the whole state; the network in bfloat16 is in none of it."""
    recipe = dataclasses.replace(get_recipe("sd15_lora"), batch=2, micro_batch=1)
    iteration = FakeIteration(ARCHITECTURES["sd15"], recipe, recipe.settings, gpu=True)
    state = iteration.state
    before = {key: (value.shape, value.dtype) for key, value in state.tensors().items()}
    with iteration.mode, StorageTracker(state.generator):
        result = train_step(state, iteration.method, iteration.plan(2), iteration.encode, 1, recipe.ema_half_life)
    assert {key: (value.shape, value.dtype) for key, value in state.tensors().items()} == before
    assert {dtype for _, dtype in before.values()} == {torch.float32}
    counts = Network.of(ARCHITECTURES["sd15"], recipe.lora)
    assert counts.trained == 67_252_224
    assert sum(shape.numel() for shape, _ in before.values()) == 5 * counts.trained + 2
    frozen = [p for name, p in state.generator.named_parameters() if ".lora_" not in name]
    assert sum(p.numel() for p in frozen) == TRUE["sd15"][0]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert not any(p.requires_grad for p in frozen)
    assert result.losses.keys() == result.gradient_norms.keys() == {"fake_score", "generator"}


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
def test_a_full_iteration_runs_at_the_true_size(name: str) -> None:
    """Both updates, their optimizer steps and the EMA: every tensor keeps its name, shape and dtype."""
    recipe = dataclasses.replace(get_recipe(name), batch=2, micro_batch=1)
    iteration = FakeIteration(ARCHITECTURES[name], recipe, recipe.settings, gpu=True)
    state = iteration.state
    before = {key: (value.shape, value.dtype) for key, value in state.tensors().items()}
    with iteration.mode, StorageTracker(state.generator) as tracker:
        result = train_step(state, iteration.method, iteration.plan(2), iteration.encode, 1, recipe.ema_half_life)
    assert {key: (value.shape, value.dtype) for key, value in state.tensors().items()} == before
    assert all(dtype is torch.float32 for _, dtype in before.values())
    assert sum(p.numel() for p in state.ema.parameters()) == TRUE[name][0]
    assert (state.iteration, state.images_seen) == (1, 2)
    assert result.losses.keys() == result.gradient_norms.keys() == {"fake_score", "generator"}
    assert tracker.flops / 2 / 1e12 == pytest.approx(TRUE[name][2], rel=0.06)
    assert tracker.flops / 2 / 1e12 > TRUE[name][2]


def quarter(name: str) -> dict[str, Any]:
    """The true UNet at a quarter of its width, with latents of 16×16."""
    config = dict(ARCHITECTURES[name].config)
    heads = config["attention_head_dim"]
    return config | {
        "block_out_channels": tuple(width // 4 for width in config["block_out_channels"]),
        "attention_head_dim": heads if isinstance(heads, int) else tuple(max(1, n // 4) for n in heads),
        "cross_attention_dim": config["cross_attention_dim"] // 4,
        "norm_num_groups": 16,
        "sample_size": 16,
    }


@pytest.mark.long
@pytest.mark.parametrize("name", ["sd15", "sd21"])
def test_a_real_iteration_runs_at_a_quarter_of_the_width(name: str) -> None:
    config, recipe = quarter(name), get_recipe(name)
    torch.manual_seed(0)
    teacher = UNet2DConditionModel.from_config(config).eval()
    state = TrainingState.start(teacher, 1e-4, 1e-4)
    start = {key: value.clone() for key, value in state.tensors().items()}
    method = Method(
        teacher=state.frozen(teacher),
        schedule=schedule(ARCHITECTURES[name].prediction_type),
        guidance=recipe.guidance,
    )
    train_step(state, method, plan(2, 16), texts(config["cross_attention_dim"]), 1, recipe.ema_half_life)
    for network in ("generator", "fake_score", "ema"):
        moved = [
            not torch.equal(value, start[key])
            for key, value in state.tensors().items()
            if key.startswith(f"{network}.")
        ]
        # Attention over equal text states has no gradient to its queries and keys.
        assert sum(moved) > len(moved) / 2
    assert all(torch.isfinite(value).all() for value in state.tensors().values())
    assert state.nan_samples == 0
