"""Recipes: all values of a distillation, and a table of them by name with their published results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sidlsg.distil.adapter import Adapter
from sidlsg.distil.adversarial import Adversarial, make_adversarial
from sidlsg.distil.few_steps import MOST_STEPS, STEP_NOISES, FewSteps
from sidlsg.distil.guidance import Guidance, make_guidance
from sidlsg.distil.weighting import GENERATOR_WEIGHTS, OMEGA
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.overrides import parse_changes, with_changes
from sidlsg.storage.records import Published

CHOICES = {
    "precision": ("fp32", "tf32", "bf16", "fp16"),
    "optimizer": ("adam", "adam8bit"),
    "parallel": ("ddp", "fsdp"),
    "lr_schedule": ("constant", "cosine"),
    "step_noise": STEP_NOISES,
    "generator_weight": GENERATOR_WEIGHTS,
    "text_states": ("float16", "float32"),
    "on_alarm": ("warn", "stop", "off"),
    "memory_check": ("refuse", "warn"),
    "export_dtype": ("float16", "float32"),
}
"""What the values that are names may be."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of a recipe that configure the engine."""

    precision: str = "fp32"
    """What the networks compute in: `fp32`, `tf32`, or under autocast `bf16` or `fp16`."""
    optimizer: str = "adam"
    """`adam` without first moments, or `adam8bit` from torchao."""
    gradient_clip: float = 0.0
    """Largest absolute value of a gradient's element; 0 for no limit."""
    parallel: str = "ddp"
    """How several processes share: `ddp` with a copy each, `fsdp` with a part each."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile the networks' blocks, where there is a compiler."""
    ema_offload: bool = False
    """Keep the EMA in the host's memory."""
    optimizer_offload: bool = False
    """Keep the optimizers' state in the host's memory while they do not step."""
    adapter: dict[str, Any] = dataclasses.field(default_factory=dict)
    """LoRA adapters over one frozen network: `rank`, `alpha`, `targets`; empty to train all weights."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if vars(self).get(name, allowed[0]) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        self._require("gradient_clip", lambda x: 0 <= x < math.inf, "allowed: 0 (no limit) or a finite number above")
        if self.optimizer == "adam8bit" and (self.optimizer_offload or self.parallel == "fsdp"):
            raise InputError(
                "optimizer 'adam8bit' keeps its state whole and on the GPU; take 'adam' with offload or fsdp"
            )
        if (self.ema_offload or self.optimizer_offload) and self.parallel == "fsdp":
            raise InputError(
                "ema_offload and optimizer_offload move what is whole, but with 'fsdp' each process has a part: "
                "leave them off"
            )
        if self.lora is not None and self.parallel == "fsdp":
            raise InputError(
                "parallel 'fsdp' shards each network by itself, but adapters share one; take 'ddp': what fsdp would "
                "split, adapters keep small"
            )
        if self.lora is not None and self.ema_offload:
            raise InputError("ema_offload moves a whole network, but an adapter's EMA is small; leave it off")

    @property
    def lora(self) -> Adapter | None:
        """The adapter; None to train all weights."""
        return Adapter.of(self.adapter) if self.adapter else None

    def _require(self, names: str, fits: Callable[[float], bool], allowed: str) -> None:
        for name in names.split():
            if not fits(getattr(self, name)):
                raise InputError(f"{name} is {getattr(self, name)}; {allowed}")


MACHINE = {
    "micro_batch", "log_every", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "evaluate_every",
    "evaluate_images", "on_alarm", "memory_check", "grids", "export_dtype", "parallel", "processes", "threads",
    "activation_checkpointing", "compile", "ema_offload", "optimizer_offload", "real_images",
}  # fmt: skip
"""Values that change how a run executes, not its results (except rounding): a stopped run may resume with others.

Where real images come from is among them, since what they are is part of a run's identity by digest."""
ADDED = {"adapter", "adversarial", "generator_weight", "real_images", "steps", "step_noise"}
"""Values that recipes did not have at first: at their defaults they are left out, so that no digest changes."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """All values of one distillation; the digest of these decides whether a checkpoint may be continued."""

    name: str
    strategy: str = "lsg"
    """A name in `sidlsg.distil.guidance.STRATEGIES`, or `custom` for four free scales."""
    scales: dict[str, float] = dataclasses.field(default_factory=dict)
    """The strategy's arguments, such as {"kappa": 1.5}."""
    alpha: float = 1.0
    generator_weight: str = OMEGA
    """What weighs a sample in the generator's loss: `omega` for 1/ω_b, or a function of the noise level σ such as
    `1-sigma`; see `sidlsg.distil.weighting`."""
    t_init: int = 625
    steps: int = 1
    """K, the student's steps: 1 to 8. One of them is trained in an iteration, chosen at random."""
    step_noise: str = "fresh"
    """Noise of the steps after the first: `fresh`, `fixed` (the first step's), or `ddim` (what the last implies)."""
    batch: int = 512
    """Images in one update, over all micro-batches."""
    micro_batch: int = 64
    """Images in memory at once; does not change what is computed."""
    iterations: int
    lr: float = 1e-6
    """Learning rate of the generator."""
    fake_score_lr: float = 1e-6
    lr_schedule: str = "constant"
    """`constant`, or `cosine` to `lr_floor` of the peak at the last iteration."""
    lr_floor: float = 0.0
    warmup: int = 0
    """Iterations of linear warm-up."""
    adam_eps: float = 1e-8
    ema_half_life: float = 50_000
    """Images."""
    prompt_dropout: float = 0.1
    """Probability that the fake score's update sees the empty prompt, where κ1, κ2 or κ3 differs from 1."""
    text_states: str = "float32"
    """What text embeddings are rounded to: `float32`, or `float16` as stored ones mostly are."""
    log_every: int = 10
    """Iterations. Losses are read from the device as often."""
    checkpoint_every: int = 100
    """Iterations."""
    checkpoint_minutes: float = 10.0
    """Minutes after the last checkpoint at most, for slow iterations; 0 for no such limit."""
    keep_checkpoints: int = 2
    """The newest ones; 2 or more, so that there is one to fall back on."""
    evaluate_every: int = 0
    """Images between evaluations of the EMA; 0 for none."""
    evaluate_images: int = 504
    """Images of one such evaluation."""
    on_alarm: str = "warn"
    """`warn` continues after an alarm, `stop` ends the run, `off` checks nothing."""
    memory_check: str = "refuse"
    """What to do with a run that does not fit by the estimate: `refuse`, or `warn` and try."""
    processes: int = 0
    """Processes that share a machine's CPUs; 0 for what a short measurement finds best. GPUs have one each."""
    threads: int = 0
    """Threads of each process; 0 likewise."""
    grids: int = 8
    """How many sample grids to keep during training, besides the one before it."""
    export_dtype: str = "float16"
    """Dtype of the exported network: `float16` or `float32`."""
    adversarial: dict[str, float] = dataclasses.field(default_factory=dict)
    """Weights and schedule of the adversarial term, see `sidlsg.distil.adversarial.Adversarial`; {} for none."""
    real_images: dict[str, str] = dataclasses.field(default_factory=dict)
    """For a pipeline: the `source` of real images, a URI, and the `licence` that they are used under."""
    published: tuple[Published, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("steps", lambda x: 1 <= x <= MOST_STEPS, f"allowed: 1 to {MOST_STEPS}")
        make_guidance(self.strategy, self.scales)
        make_adversarial(self.adversarial)
        if self.real_images and (self.real_images.keys() - {"source", "licence"} or not self.real_images.get("source")):
            raise InputError(
                f'real_images is {self.real_images}; give {{"source": URI, "licence": TEXT}}, the licence where it '
                "is known"
            )
        counts = "batch micro_batch iterations log_every checkpoint_every t_init evaluate_images"
        self._require(counts, lambda x: x >= 1, "it must be 1 or more")
        positive = "lr fake_score_lr ema_half_life adam_eps"
        self._require(positive, lambda x: 0 < x < math.inf, "it must be a finite number above 0")
        FewSteps(t_init=self.t_init, count=self.steps, noise=self.step_noise)
        self._require("alpha", math.isfinite, "it must be a finite number")
        self._require("warmup grids processes threads evaluate_every", lambda x: x >= 0, "it must be 0 or more")
        self._require("checkpoint_minutes", lambda x: 0 <= x < math.inf, "it must be a finite number, 0 or more")
        self._require("lr_floor", lambda x: 0 <= x <= 1, "allowed: 0 to 1, a share of the peak")
        self._require("prompt_dropout", lambda x: 0 <= x < 1, "allowed: 0 up to, not including, 1")
        self._require("keep_checkpoints", lambda x: x >= 2, "it must be 2 or more")

    @property
    def guidance(self) -> Guidance:
        """The strategy's four κ."""
        return make_guidance(self.strategy, self.scales)

    @property
    def few_steps(self) -> FewSteps:
        """How the student is sampled."""
        return FewSteps(t_init=self.t_init, count=self.steps, noise=self.step_noise)

    @property
    def adversarial_term(self) -> Adversarial | None:
        """The adversarial term, which needs real images; None for none."""
        return make_adversarial(self.adversarial)

    @property
    def settings(self) -> Settings:
        """How the engine uses the machine."""
        return Settings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)})

    @property
    def identity(self) -> dict[str, str]:
        """By name, the values that decide the result; how the machine is used and what is logged do not."""
        # 1 and 1.0 are one value.
        values = self.values() | {"scales": {name: float(value) for name, value in self.scales.items()}}
        floats = {field.name for field in dataclasses.fields(self) if field.type == "float"}
        values |= {name: float(values[name]) for name in floats & values.keys()}
        if (term := self.adversarial_term) is not None:
            values["adversarial"] = {name: float(value) for name, value in dataclasses.asdict(term).items()}
        return {name: json.dumps(value) for name, value in values.items() if name not in MACHINE}

    def values(self) -> dict[str, Any]:
        """Every value that decides what is computed, fit for JSON; those of `ADDED` where they are not the default."""
        added = {field.name: field for field in dataclasses.fields(self) if field.name in ADDED}
        defaults = {
            name: {} if field.default is dataclasses.MISSING else field.default for name, field in added.items()
        }
        values = dataclasses.asdict(self) | {"adapter": self.lora.values() if self.lora else {}}
        unused = {name for name, default in defaults.items() if values[name] == default}
        return {name: value for name, value in values.items() if name not in unused | {"published"}}

    @property
    def digest(self) -> str:
        """SHA-256 of `values`."""
        return hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode()).hexdigest()


def recipe_with_changes(name: str, changes: str) -> Recipe:
    """A recipe by name, some values replaced by a JSON object such as `{"iterations": 400}`.

    Raises:
        InputError: the name, the JSON or a value in it cannot be used.
    """
    given = parse_changes(changes)
    recipe = with_changes(get_recipe(name), given, fixed=("name", "published"))
    if "micro_batch" in given and recipe.micro_batch > recipe.batch:
        raise InputError(f"micro_batch is {recipe.micro_batch}; it is a part of the batch, {recipe.batch} at most")
    return recipe


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown{nearest(name, RECIPES)}; allowed: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]


_PAPER = "arXiv 2406.01561, zero-shot COCO-2014"


def _paper(name: str, kappa: float, images: float, *rows: tuple[float, float, float], micro_batch: int = 8) -> Recipe:
    """The paper's settings: batch 512, lr 1e-6, α = 1, EMA half-life 50,000 images; for a GPU of 80 GB.

    Rows: (million images seen, FID, CLIP), as published.
    """
    return Recipe(
        name=name,
        scales={"kappa": kappa},
        iterations=round(images * 1e6 / 512),
        micro_batch=micro_batch,
        precision="bf16",
        text_states="float16",
        log_every=5,
        checkpoint_every=100,
        grids=16,
        on_alarm="stop",
        published=tuple(
            Published(source=_PAPER, images_seen=seen * 1e6, fid=fid, clip=clip) for seen, fid, clip in rows
        ),
    )


_BOTH_HALVES = (
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "ff_context.net.0.proj", "ff_context.net.2"),
)
"""Adapters' targets in a transformer with layers of the image's tokens and of the prompt's."""


def _flow(name: str, micro_batch: int, **more: Any) -> Recipe:
    """SiD-DiT's settings for flow-matching teachers (arXiv 2509.25127, its published code).

    It has no EMA; that of the other recipes is kept. Its figures are not for a protocol of this package.
    """
    return replace(
        _paper(name, 4.5, 1.0, micro_batch=micro_batch),
        batch=256,
        iterations=round(1e6 / 256),
        steps=4,
        step_noise="ddim",
        t_init=1000,
        generator_weight="1-sigma",
        activation_checkpointing=True,
        **more,
    )


def _xl(name: str, **more: Any) -> Recipe:
    """Four steps for Stable Diffusion XL."""
    return replace(
        _paper(name, 1.5, 1.0, micro_batch=4),
        strategy="zero_cfg",
        scales={},
        batch=256,
        iterations=round(1e6 / 256),
        steps=4,
        step_noise="ddim",
        activation_checkpointing=True,
        **more,
    )


_TINY = Recipe(
    name="tiny",
    scales={"kappa": 1.2},
    batch=64,
    micro_batch=64,
    iterations=260,
    lr=5e-4,
    fake_score_lr=5e-4,
    lr_schedule="cosine",
    ema_half_life=1000,
    log_every=2,
    checkpoint_every=20,
    evaluate_every=3328,
    export_dtype="float32",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _TINY,
        replace(_TINY, name="tiny_lora", adapter={"rank": 16}, lr=2e-3, fake_score_lr=2e-3),
        # With `ddim` a plain call of the stock pipeline samples the exported folder, and z alone decides an image.
        replace(_TINY, name="tiny_4step", steps=4, step_noise="ddim"),
        # For a teacher of flow matching, such as the tiny Stable Diffusion 3 of `sidlsg teach --family sd3`.
        replace(_TINY, name="tiny_flow", steps=4, step_noise="ddim", t_init=1000, generator_weight="1-sigma"),
        # From a finished student of tiny. Guidance would draw the student away from the real images.
        replace(
            _TINY,
            name="tiny_real",
            strategy="none",
            scales={},
            lr=1e-4,
            adversarial={"lambda_d": 1.0, "lambda_g": 0.1, "freeze": 1664, "join": 1664},
        ),
        # For the bundled scenes, where text is hard to fit: `sidlsg run --recipe scenes` with their files.
        replace(_TINY, name="scenes", scales={"kappa": 1.5}, precision="bf16", iterations=520, evaluate_every=8320),
        _paper("sd15", 1.5, 18.8, (8.8, 8.71, 0.302), (18.8, 8.15, 0.304)),
        _paper("sd15_kappa2", 2, 4.8, (4.8, 9.56, 0.313)),
        _paper("sd15_kappa3", 3, 6.3, (6.3, 13.21, 0.314)),
        _paper("sd15_kappa4_5", 4.5, 8.4, (8.4, 16.59, 0.317)),
        # For 24 GB. Rank, alpha, targets and lr are DMD2's; nothing was published for adapters with this method.
        replace(
            _paper("sd15_lora", 1.5, 4.0),
            adapter={"rank": 64},
            lr=5e-5,
            fake_score_lr=5e-5,
            activation_checkpointing=True,
        ),
        _paper("sd21_base", 1.5, 9.7, (9.7, 9.52, 0.308)),
        _paper("sd21_base_kappa2", 2, 8.5, (8.5, 10.97, 0.318)),
        _paper("sd21_base_kappa3", 3, 6.1, (6.1, 13.50, 0.321)),
        _paper("sd21_base_kappa4_5", 4.5, 7.2, (7.2, 16.54, 0.322)),
        # Weights and schedule as in SiDA's code for UNets (arXiv 2410.14919). Its FID for SD 1.5 in one step is 7.89 by
        # second-hand reports. Start it from a finished student of sd15.
        replace(
            _paper("sd15_real", 1.5, 10.0),
            on_alarm="warn",  # the limits of the discriminator's alarms were tried on the bundled teacher alone
            adversarial={"lambda_d": 1.0, "lambda_g": 1e-4, "freeze": 100_000, "join": 200_000},
        ),
        _paper("sd21", 1.5, 10.0, micro_batch=2),  # 768 pixels, v-prediction: nothing was published for it
        # What was published of four steps is of other teachers.
        replace(_paper("sd15_4step", 1.5, 10.0), steps=4, step_noise="ddim"),
        # 1024 pixels, for GPUs of 80 GB. Of Stable Diffusion XL in four steps the method's authors published results
        # with real images (arXiv 2505.12674), not for these values; zero-CFG is theirs.
        _xl("sdxl_4step"),
        _xl("sdxl_lora", adapter={"rank": 64}, lr=5e-5, fake_score_lr=5e-5),  # for 24 GB
        _flow("sd3_medium_4step", 8),
        _flow("sd35_medium_4step", 4),
        _flow("sd35_large_4step", 4, parallel="fsdp"),  # on 8 GPUs
        _flow("sd35_large_lora", 4, adapter={"rank": 64, "targets": _BOTH_HALVES}, lr=5e-5, fake_score_lr=5e-5),
        _flow("sana_600m_4step", 16),
        _flow("sana_1600m_4step", 8),
        # Guidance-distilled, so κ = 1: see the family's remark.
        _flow("flux_dev_4step", 4, strategy="none", scales={}, parallel="fsdp"),  # on 8 GPUs
        _flow(
            "flux_dev_lora",
            4,
            strategy="none",
            scales={},
            adapter={"rank": 64, "targets": (*_BOTH_HALVES, "proj_mlp", "proj_out")},
            lr=5e-5,
            fake_score_lr=5e-5,
        ),
    )
}


def published_results() -> dict[str, tuple[Published, ...]]:
    """What others published for the recipes' values, by recipe."""
    return {name: recipe.published for name, recipe in RECIPES.items()}
