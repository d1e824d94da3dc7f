"""One object holds all of training's state: everything that a checkpoint needs to continue."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from pydantic import NonNegativeInt, TypeAdapter
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from sidlsg.distil.lora import adapted, kept_tensors
from sidlsg.distil.networks import COMPUTE, Parallel, autocasting, compiles, new_loss_scaler, prepared
from sidlsg.distil.optimizer import make_optimizer, optimizer_tensors, set_learning_rate
from sidlsg.distil.recipes import Settings
from sidlsg.runtime.distributed import World
from sidlsg.teacher.families import family_of
from sidlsg.teacher.families.family import Family

Row = dict[str, float]


@dataclass(kw_only=True)
class Progress:
    """How far a run is, and what it has logged."""

    iteration: NonNegativeInt = 0
    """Finished iterations."""
    fake_score_done: bool = False
    """Whether the fake score has had its update of the iteration that is not finished yet."""
    carried: Row = field(default_factory=dict)
    """What that update reported, for the log's row of the iteration."""
    images_seen: NonNegativeInt = 0
    nan_samples: NonNegativeInt = 0
    seconds: float = 0.0
    """Training time so far, restarts added up."""
    layout: str = ""
    """How the CPUs are used, in words; empty on GPUs."""
    log: list[Row] = field(default_factory=list)
    evaluations: list[Row] = field(default_factory=list)
    """Scores of the EMA along the way: one row an evaluation, with `images_seen`."""


@dataclass(kw_only=True)
class Counters(Progress):
    """The values of a checkpoint that are not tensors; earlier versions kept fewer."""

    generator_scaler: Row
    """State of the loss scale; empty, like the next one, where the precision needs none."""
    fake_score_scaler: Row

    @classmethod
    def from_json(cls, text: str) -> Counters:
        """Read them.

        Raises:
            ValueError: one is missing or of another type.
        """
        found = TypeAdapter(cls).validate_json(text, strict=True)
        for scaler in (found.generator_scaler, found.fake_score_scaler):
            if scaler and scaler.keys() != torch.amp.GradScaler("cpu").state_dict().keys():
                raise ValueError("a loss scale is incomplete")
        return found


@dataclass
class TrainingState(Progress):
    """Networks, optimizers, loss scales, EMA, counters and logs of one run.

    There is no random state: all draws follow from `iteration`.
    """

    generator: nn.Module
    fake_score: nn.Module
    ema: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    """Optimizers of `generator` and `fake_score`; the loss scales have the same names."""
    scalers: dict[str, torch.amp.GradScaler]
    parallel: Parallel
    settings: Settings
    family: Family
    """The networks'."""
    compiled: bool = False
    """Whether the networks' blocks are compiled."""

    @classmethod
    def start(
        cls,
        teacher: Any,
        lr: float,
        fake_score_lr: float,
        eps: float = 1e-8,
        *,
        settings: Settings | None = None,
        world: World | None = None,
        generator: Any = None,
        report: Callable[[str], None] = print,
        seed: int = 0,
    ) -> TrainingState:
        """Generator, fake score and EMA as copies of the teacher; Adam with β = (0, 0.999), no weight decay.

        The teacher is a float32 network of a family, which is not changed; so is `generator`, which the generator
        and the EMA start from instead. With adapters, which the `seed` initialises, the teacher is the part that all
        share: it is frozen, and takes the precision of the products. `report` receives a line where a setting is not
        possible here.
        """
        settings, world = settings or Settings(), world or World()
        parallel = Parallel(world, settings.parallel, COMPUTE[settings.precision])
        compiled = settings.compile and compiles(world.device, report)

        if settings.lora is not None:
            _to_compute(teacher, settings)

        def network(source: Any, trained: bool, number: int) -> Any:
            own = copy.deepcopy(source) if settings.lora is None else adapted(source, settings.lora, seed, number)
            return parallel.spread(prepared(own, settings, world.device, compiled, trained))

        first, ema = network(generator or teacher, True, 0), network(generator or teacher, False, 0)
        if settings.ema_offload:
            ema.to("cpu")
        trained = {"generator": (first, lr), "fake_score": (network(teacher, True, 1), fake_score_lr)}
        kind, offload = settings.optimizer, settings.optimizer_offload
        return cls(
            generator=first,
            fake_score=trained["fake_score"][0],
            ema=ema,
            optimizers={name: make_optimizer(kind, each, rate, eps, offload) for name, (each, rate) in trained.items()},
            scalers={name: new_loss_scaler(settings.precision, world.device) for name in trained},
            parallel=parallel,
            settings=settings,
            family=family_of(teacher),
            compiled=compiled,
        )

    def frozen(self, teacher: Any) -> Any:
        """The teacher's network, prepared in place to run with these networks; under autocast in that precision."""
        _to_compute(teacher, self.settings)
        network = prepared(teacher, self.settings, self.world.device, self.compiled, trained=False)
        return self.parallel.spread(network)

    def call(self, network: nn.Module) -> Callable[..., Any]:
        """A network as a callable of x_t, t and conditioning, in the run's precision."""
        return self.family.takes(autocasting(network, self.settings.precision, self.world.device))

    @contextlib.contextmanager
    def ema_on_device(self) -> Iterator[Callable[..., Any]]:
        """The EMA as a callable, on the networks' device while the block runs."""
        if self.settings.ema_offload:
            self.ema.to(self.device)
        try:
            yield self.call(self.ema)
        finally:
            if self.settings.ema_offload:
                self.ema.to("cpu")

    def student_network(self, kind: Any, config: Any) -> Any:
        """The EMA as a float32 network in the host's memory, put together where processes have parts of it."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.ema, options=options)
        network = kind.from_config(config)
        if weights:  # only rank 0 has them all
            network.load_state_dict(weights)
        return network

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.generator.parameters()).device

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.parallel.world

    def set_learning_rates(self, lr: float, fake_score_lr: float) -> None:
        """Set both optimizers' learning rates for the next step."""
        set_learning_rate(self.optimizers["generator"], lr)
        set_learning_rate(self.optimizers["fake_score"], fake_score_lr)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name, live: what is copied into them is restored."""
        result: dict[str, Tensor] = {}
        for name in ("generator", "fake_score", "ema"):
            result |= {f"{name}.{key}": value for key, value in kept_tensors(getattr(self, name)).items()}
        for name, optimizer in self.optimizers.items():
            tensors = optimizer_tensors(optimizer, getattr(self, name))
            result |= {f"{name}_optimizer.{key}": value for key, value in tensors.items()}
        return result

    def counters(self) -> dict[str, Any]:
        """The values of `Counters`, fit for JSON."""
        progress = {each.name: getattr(self, each.name) for each in fields(Progress)}
        return progress | {f"{name}_scaler": scaler.state_dict() for name, scaler in self.scalers.items()}

    def set_counters(self, counters: dict[str, Any]) -> None:
        """Put back what `counters` gave; earlier versions gave fewer."""
        for each in fields(Progress):
            setattr(self, each.name, counters.get(each.name, getattr(self, each.name)))
        for name, scaler in self.scalers.items():
            if counters[f"{name}_scaler"]:
                scaler.load_state_dict(counters[f"{name}_scaler"])


def _to_compute(network: nn.Module, settings: Settings) -> None:
    """Give a frozen network's weights, in place, the precision of its products."""
    dtype = COMPUTE[settings.precision]
    if dtype is not None:
        nn.Module.to(network, dtype)  # the library's own `to` warns, of nothing
