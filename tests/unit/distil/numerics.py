"""A few iterations of a tiny training, as numbers: what `sidlsg.distil.NUMERICS` is the version of.

After a wanted change: raise the version, then `python tests/unit/distil/numerics.py` writes numerics.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from sidlsg import distil
from sidlsg.distil import loop, losses, sampler, step
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.sampler import DrawPlan
from sidlsg.distil.state import TrainingState
from sidlsg.teacher.schedule import NoiseSchedule
from unit.golden_numbers import Numbers, remake

FILE = Path(__file__).with_name("numerics.json")
COMMAND = "python tests/unit/distil/numerics.py"
VERSION = "sidlsg.distil.NUMERICS"
LATENT, PROMPTS = (4, 4, 4), 10
SHORT = {"batch": 4, "iterations": 3, "lr": 2e-3, "fake_score_lr": 3e-3, "prompt_dropout": 0.4}
CASES = {
    "epsilon": Recipe(
        name="a", scales={"kappa": 1.5}, lr_schedule="cosine", warmup=1, ema_half_life=50, micro_batch=2, **SHORT
    ),
    "v_prediction": Recipe(
        name="b",
        strategy="custom",
        scales={"kappa1": 1.5, "kappa2": 0.5, "kappa3": 4.5, "kappa4": -1.0},
        alpha=1.2,
        t_init=500,
        gradient_clip=0.05,
        adam_eps=1e-6,
        ema_half_life=2,
        micro_batch=4,
        **SHORT,
    ),
}
"""By what the teacher predicts: between them, everything that a training computes on one device in full precision."""


def normal(name: str, *shape: int) -> Tensor:
    """Standard normal numbers, the same with any version of any library that promises to keep its bit streams."""
    seed = int.from_bytes(name.encode()[-8:], "little")
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(shape))


def make_unet(name: str) -> UNet2DConditionModel:
    """A float64 UNet whose weights follow from a name."""
    unet = UNet2DConditionModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).double()
    with torch.no_grad():
        for number, (key, parameter) in enumerate(unet.named_parameters()):
            drawn = normal(f"{number} {name}", *parameter.shape)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
            parameter.copy_(drawn / fan_in**0.5 + float("norm" in key and key.endswith("weight")))
    return unet.eval()


def encode(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Text embeddings by index, without a text encoder."""
    prompts, empty = normal("prompts", PROMPTS, 3, 8), normal("empty", 1, 3, 8)
    return torch.stack([empty[0] if r else prompts[i] for i, r in zip(indices, replaced, strict=True)]), empty


def summary(network: nn.Module, start: nn.Module) -> list[float]:
    """How far the weights moved from where they started, and along a fixed direction."""
    moved = torch.cat(
        [(p - q).detach().flatten() for p, q in zip(network.parameters(), start.parameters(), strict=True)]
    )
    return [float(moved.norm()), float(moved @ torch.cos(torch.arange(len(moved), dtype=torch.float64)))]


def trained(recipe: Recipe, prediction_type: str) -> dict[str, Any]:
    """Losses and gradient norms of each iteration, and a summary of each network at the end."""
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
    )
    schedule = NoiseSchedule.from_scheduler(scheduler)
    teacher, start = make_unet("teacher").requires_grad_(False), make_unet("student")
    state = TrainingState.start(
        teacher, recipe.lr, recipe.fake_score_lr, recipe.adam_eps, settings=recipe.settings, generator=start
    )
    method = losses.Method(
        teacher=teacher, schedule=schedule, guidance=recipe.guidance, alpha=recipe.alpha, steps=recipe.few_steps
    )
    plan = DrawPlan(
        seed=7,
        batch=recipe.batch,
        prompt_count=PROMPTS,
        latent_shape=LATENT,
        prompt_dropout=recipe.prompt_dropout,
        steps=recipe.few_steps,
    )
    # As if in the midst of a run: the first averages of all would hold nothing but the last weights.
    state.images_seen = 100
    rows = []
    for iteration in range(recipe.iterations):
        factor = loop.learning_rate_factor(recipe, iteration)
        state.set_learning_rates(factor * recipe.lr, factor * recipe.fake_score_lr)
        result = step.train_step(state, method, plan, encode, recipe.micro_batch, recipe.ema_half_life)
        rows.append([float(v) for v in (*result.losses.values(), *result.gradient_norms.values())])
    z, noises = normal("z", 2, *LATENT), normal("noises", 2, 2, *LATENT)
    with torch.no_grad():
        x_g = sampler.generate_latents(start, schedule, z, encode([0, 1], [False] * 2)[0], recipe.t_init, 3, noises)
    return {
        "losses and norms": rows,
        "generator": summary(state.generator, start),
        "fake score": summary(state.fake_score, teacher),
        "ema": summary(state.ema, start),
        "three steps": [float(x_g.norm()), float(x_g.flatten() @ torch.cos(torch.arange(x_g.numel()).double()))],
    }


def numbers() -> dict[str, Numbers]:
    """Today's."""
    values = {prediction_type: trained(recipe, prediction_type) for prediction_type, recipe in CASES.items()}
    return {VERSION: Numbers(version=distil.NUMERICS, values=values)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    remake(FILE, numbers())
