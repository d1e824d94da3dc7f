"""What a recipe says, how one is found by name, and how its guidance becomes four κ."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from sidlsg.distil.settings import Settings
from sidlsg.distil.strategies import Guidance, make_guidance
from sidlsg.registry.rules import GateRules
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.overrides import parse_changes, with_changes

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
class Published:
    """A result that others published for these values; never compared with scores of another protocol."""

    source: str
    images_seen: float
    fid: float
    clip: float
    protocol: str = "fid/coco2014-30k-clean"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All values of one distillation; the digest of these decides whether a checkpoint may be continued."""

    name: str
    strategy: str = "lsg"
    """A name in `sidlsg.distil.strategies.STRATEGIES`, or `custom` for four free scales."""
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
    """`fp32`, `tf32`, or under autocast `bf16` or `fp16`; see `sidlsg.distil.settings.Settings` for this and others."""
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
    gate: GateRules | None = None
    """What a student must reach to become the champion; None where no protocol for its domain can run yet."""

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

    def require_gate(self) -> GateRules:
        """The gate's rules.

        Raises:
            InputError: the recipe has none.
        """
        if self.gate is None:
            from sidlsg.distil.table import RECIPES

            gated = ", ".join(sorted(name for name, entry in RECIPES.items() if entry.gate is not None))
            raise InputError(
                f"recipe {self.name!r} has no gate: its domain has no protocol that runs here yet; with one: {gated}"
            )
        return self.gate

    def values(self) -> dict[str, Any]:
        """Every value that decides what is computed, fit for JSON: all but the published results and the gate."""
        plain = dataclasses.asdict(self)
        del plain["published"], plain["gate"]
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
    return with_changes(get_recipe(name), parse_changes(changes), fixed=("name", "published", "gate"))


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    from sidlsg.distil.table import RECIPES

    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown{nearest(name, RECIPES)}; allowed: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
