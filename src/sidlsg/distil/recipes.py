"""What a recipe says, how one is found by name, and how its guidance becomes four κ."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from sidlsg.distil.guidance import Guidance, make_guidance
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.overrides import parse_changes, with_changes
from sidlsg.storage.records import Published

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
PARALLEL = ("ddp", "fsdp")
OPTIMIZERS = ("adam", "adam8bit")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The engine's choices, out of a recipe's values of the same names."""

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
    """Compile the networks' blocks, where a compiler is there."""
    ema_offload: bool = False
    """Keep the EMA in the host's memory."""
    optimizer_offload: bool = False
    """Keep the optimizers' state in the host's memory while they do not step."""

    def __post_init__(self) -> None:
        for name, allowed in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS), ("parallel", PARALLEL)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        if not 0 <= self.gradient_clip < float("inf"):
            raise InputError(f"gradient_clip is {self.gradient_clip}; allowed: 0 (no limit) or a finite number above")
        if self.optimizer == "adam8bit" and (self.optimizer_offload or self.parallel == "fsdp"):
            raise InputError(
                "optimizer 'adam8bit' keeps its state whole and on the GPU; take 'adam' with offload or fsdp"
            )
        if (self.ema_offload or self.optimizer_offload) and self.parallel == "fsdp":
            raise InputError(
                "ema_offload and optimizer_offload move what is whole, but with 'fsdp' each process has a part: "
                "leave them off"
            )


MACHINE = {
    "micro_batch",
    "log_every",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep_checkpoints",
    "evaluate_every",
    "evaluate_images",
    "on_alarm",
    "memory_check",
    "grids",
    "export_dtype",
    "parallel",
    "processes",
    "threads",
    "activation_checkpointing",
    "compile",
    "ema_offload",
    "optimizer_offload",
}
"""Values that change how a run goes, not what it computes (but for rounding): a stopped run may go on with others."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All values of one distillation; the digest of these decides whether a checkpoint may be continued."""

    name: str
    strategy: str = "lsg"
    """A name in `sidlsg.distil.guidance.STRATEGIES`, or `custom` for four free scales."""
    scales: dict[str, float] = dataclasses.field(default_factory=dict)
    """The strategy's arguments, such as {"kappa": 1.5}."""
    alpha: float = 1.0
    t_init: int = 625
    batch: int = 512
    """Images in one update, over all micro-batches."""
    micro_batch: int = 64
    """Images in memory at once; does not change what is computed."""
    iterations: int
    lr: float = 1e-6
    """Of the generator."""
    fake_score_lr: float = 1e-6
    lr_schedule: str = "constant"
    """`constant`, or `cosine` to `lr_floor` of the peak at the last iteration."""
    lr_floor: float = 0.0
    warmup: int = 0
    """Iterations of linear warm-up."""
    adam_eps: float = 1e-8
    ema_half_life: float = 50_000
    """In images."""
    prompt_dropout: float = 0.1
    """For the fake score's update, where κ1, κ2 or κ3 differs from 1."""
    precision: str = "fp32"
    """`fp32`, `tf32`, or under autocast `bf16` or `fp16`; see `sidlsg.distil.recipes.Settings` for this and others."""
    optimizer: str = "adam"
    """`adam` without first moments, or `adam8bit`."""
    gradient_clip: float = 0.0
    """Largest absolute value of a gradient's element; 0 for no limit."""
    text_states: str = "float32"
    """What prompts' states are rounded to: `float32`, or `float16` as files of them mostly are."""
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
    """`warn` goes on after an alarm, `stop` ends the run, `off` looks for none."""
    memory_check: str = "refuse"
    """Of a run that does not fit by the estimate: `refuse`, or `warn` and try."""
    parallel: str = "ddp"
    """`ddp` or `fsdp`, for several processes."""
    processes: int = 0
    """Processes that share a machine's CPUs; 0 for what a short measurement finds best. GPUs have one each."""
    threads: int = 0
    """Threads of each process; 0 likewise."""
    activation_checkpointing: bool = False
    compile: bool = False
    ema_offload: bool = False
    optimizer_offload: bool = False
    grids: int = 8
    """How many sample grids to keep along the way, besides the one before training."""
    export_dtype: str = "float16"
    """`float16` or `float32`: of the exported UNet."""
    published: tuple[Published, ...] = ()

    def __post_init__(self) -> None:
        make_guidance(self.strategy, self.scales)
        for name in ("batch", "micro_batch", "iterations", "log_every", "checkpoint_every", "t_init"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("lr", "fake_score_lr", "ema_half_life", "adam_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; it must be a finite number above 0")
        if not math.isfinite(self.alpha):
            raise InputError(f"alpha is {self.alpha}; it must be a finite number")
        for name in ("warmup", "grids", "processes", "threads"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 <= self.checkpoint_minutes < math.inf:
            raise InputError(f"checkpoint_minutes is {self.checkpoint_minutes}; it must be a finite number, 0 or more")
        if not 0 <= self.lr_floor <= 1:
            raise InputError(f"lr_floor is {self.lr_floor}; allowed: 0 to 1, a share of the peak")
        if not 0 <= self.prompt_dropout < 1:
            raise InputError(f"prompt_dropout is {self.prompt_dropout}; allowed: 0 up to, not including, 1")
        if self.keep_checkpoints < 2:
            raise InputError(f"keep_checkpoints is {self.keep_checkpoints}; it must be 2 or more")
        if self.evaluate_every < 0 or self.evaluate_images < 1:
            raise InputError(
                f"evaluate_every is {self.evaluate_every} and evaluate_images {self.evaluate_images}; "
                "allowed: 0 images or more, and 1 or more"
            )
        if self.on_alarm not in ("warn", "stop", "off"):
            raise InputError(f"on_alarm is {self.on_alarm!r}; allowed: warn, stop, off")
        if self.memory_check not in ("refuse", "warn"):
            raise InputError(f"memory_check is {self.memory_check!r}; allowed: refuse, warn")
        if self.text_states not in ("float16", "float32"):
            raise InputError(f"text_states is {self.text_states!r}; allowed: float16, float32")
        _ = self.settings  # which checks its own
        if self.lr_schedule not in ("constant", "cosine"):
            raise InputError(f"lr_schedule is {self.lr_schedule!r}; allowed: constant, cosine")
        if self.export_dtype not in ("float16", "float32"):
            raise InputError(f"export_dtype is {self.export_dtype!r}; allowed: float16, float32")

    @property
    def guidance(self) -> Guidance:
        """The strategy's four κ."""
        return make_guidance(self.strategy, self.scales)

    @property
    def settings(self) -> Settings:
        """How the engine uses the machine."""
        return Settings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)})

    @property
    def identity(self) -> dict[str, str]:
        """By name, the values that decide the result; how the machine is used and what is logged do not."""
        values = self.values() | {"scales": {name: float(value) for name, value in self.scales.items()}}
        floats = {field.name for field in dataclasses.fields(self) if field.type == "float"}
        # 1 and 1.0 are one value.
        values |= {name: float(values[name]) for name in floats}
        return {name: json.dumps(value) for name, value in values.items() if name not in MACHINE}

    def values(self) -> dict[str, Any]:
        """Every value that decides what is computed, fit for JSON: all but the published results."""
        plain = dataclasses.asdict(self)
        del plain["published"]
        return plain

    @property
    def digest(self) -> str:
        """SHA-256 of `values`."""
        return hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode()).hexdigest()


def recipe_with_changes(name: str, changes: str) -> Recipe:
    """A recipe by name, some values replaced by a JSON object such as `{"iterations": 400}`.

    Raises:
        InputError: the name, the JSON or a value in it cannot be used.
    """
    return with_changes(get_recipe(name), parse_changes(changes), fixed=("name", "published"))


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """

    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown{nearest(name, RECIPES)}; allowed: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]


_PAPER = "arXiv 2406.01561, zero-shot COCO-2014"


def _published(*rows: tuple[float, float, float]) -> tuple[Published, ...]:
    return tuple(Published(source=_PAPER, images_seen=seen * 1e6, fid=fid, clip=clip) for seen, fid, clip in rows)


def _paper(name: str, kappa: float, images: float, *rows: tuple[float, float, float], micro_batch: int = 8) -> Recipe:
    """The paper's settings: batch 512, lr 1e-6, α = 1, EMA half-life 50,000 images; for a GPU of 80 GB."""
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
        published=_published(*rows),
    )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
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
        ),
        _paper("sd15", 1.5, 18.8, (8.8, 8.71, 0.302), (18.8, 8.15, 0.304)),
        _paper("sd15_kappa2", 2, 4.8, (4.8, 9.56, 0.313)),
        _paper("sd15_kappa3", 3, 6.3, (6.3, 13.21, 0.314)),
        _paper("sd15_kappa4_5", 4.5, 8.4, (8.4, 16.59, 0.317)),
        _paper("sd21_base", 1.5, 9.7, (9.7, 9.52, 0.308)),
        _paper("sd21_base_kappa2", 2, 8.5, (8.5, 10.97, 0.318)),
        _paper("sd21_base_kappa3", 3, 6.1, (6.1, 13.50, 0.321)),
        _paper("sd21_base_kappa4_5", 4.5, 7.2, (7.2, 16.54, 0.322)),
        _paper("sd21", 1.5, 10.0, micro_batch=2),  # 768 pixels, v-prediction: nothing was published for it
    )
}


def published_results() -> dict[str, tuple[Published, ...]]:
    """What others published for the recipes' values, by recipe."""
    return {name: recipe.published for name, recipe in RECIPES.items()}
