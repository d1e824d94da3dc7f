"""An iteration of a recipe, imagined: how much memory its passes need at the peak, and how much they compute."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sidlsg.distil.draws import UPDATES, DrawPlan, Draws, Update
from sidlsg.distil.estimate.fake_networks import FakeMode, StorageTracker, fake_unet
from sidlsg.distil.networks import COMPUTE, autocasting
from sidlsg.distil.recipes import Recipe, Settings
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import Method, accumulate
from sidlsg.teacher.architectures import TEXT_LENGTH
from sidlsg.teacher.schedule import NoiseSchedule

TIMESTEPS = 1000


class _ShapesOnly(DrawPlan):
    """Draws of the right shapes, without drawing."""

    def draw(self, iteration: int, update: Update, start: int, stop: int) -> Draws:  # noqa: ARG002
        """Samples start..stop-1, none of their prompts replaced."""
        count = stop - start
        z, noise = (torch.empty(count, *self.latent_shape) for _ in range(2))
        return Draws((0,) * count, (False,) * count, z, noise, torch.empty(count, dtype=torch.long))


@dataclass(frozen=True, kw_only=True)
class FakeUpdate:
    """One update of one micro-batch."""

    peak: Mapping[str, int]
    """Bytes by part when their sum is largest, without what is there all the time."""
    flops: int
    """Floating-point operations, those of activation checkpointing included."""

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.peak.values())


class _GpuState(TrainingState):
    """Attention stays in the precision of products, which a CPU's autocast would take to float32."""

    def call(self, network: nn.Module) -> Callable[..., Any]:
        """As the state of a run on a GPU."""
        return autocasting(network, self.settings.precision, self.world.device, gpu=True)


class FakeIteration:
    """A recipe's networks without memory, ready to pass micro-batches through."""

    def __init__(self, config: Mapping[str, Any], recipe: Recipe, settings: Settings, gpu: bool) -> None:
        """Args:
        config: of the teacher's UNet.
        recipe: whose guidance and values.
        settings: how the machine is used; what moves to the host's memory stays here, and is not measured.
        gpu: whether dtypes follow a GPU's rules.
        """
        self._config, self._recipe = config, recipe
        # Compiled blocks fuse operations, which saves memory that nobody can promise.
        settings = replace(settings, optimizer="adam", optimizer_offload=False, ema_offload=False, compile=False)
        self.imagination = FakeMode()
        with warnings.catch_warnings(), self.imagination:
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
            half = COMPUTE[settings.precision] is not None
            teacher = fake_unet(config, gpu_norms=gpu and half)
            state = _GpuState if gpu else TrainingState
            self.state = state.start(teacher, recipe.lr, recipe.fake_score_lr, settings=settings)
            self.method = Method(
                teacher=self.state.call(self.state.frozen(teacher)),
                schedule=NoiseSchedule(torch.empty(TIMESTEPS, dtype=torch.float64), "epsilon"),
                guidance=recipe.guidance,
                alpha=recipe.alpha,
                t_init=min(recipe.t_init, TIMESTEPS - 1),
            )
            self._teacher = teacher

    def encode(self, _: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Text states of the right shape."""
        width = self._config["cross_attention_dim"]
        return torch.empty(len(replaced), TEXT_LENGTH, width), torch.empty(1, TEXT_LENGTH, width)

    def plan(self, batch: int) -> DrawPlan:
        """Draws of the right shapes."""
        size = self._config["sample_size"]
        return _ShapesOnly(
            seed=0,
            batch=batch,
            prompt_count=batch,
            latent_shape=(self._config["in_channels"], size, size),
            prompt_dropout=self._recipe.prompt_dropout,
        )

    def run(self, update: Update, micro_batch: int, again: bool) -> FakeUpdate:
        """One micro-batch of one update, forward and backward.

        Args:
            update: which.
            micro_batch: samples.
            again: whether the gradients of an earlier micro-batch are there.
        """
        network = getattr(self.state, update)
        with self.imagination:
            tracker = StorageTracker(network)
            try:
                tracker.weights_of((self.state.generator, self.state.fake_score, self._teacher))
                if again:
                    tracker.expect_gradients(network)
                with tracker:
                    accumulate(self.state, self.method, self.plan(micro_batch), self.encode, micro_batch, update)
            finally:
                tracker.close()
                network.zero_grad(set_to_none=True)
        return FakeUpdate(peak=tracker.peak, flops=tracker.flops)


@dataclass(frozen=True, kw_only=True)
class IterationNeeds:
    """What an iteration needs, as far as micro-batches of two sizes show."""

    small: FakeUpdate
    """The generator's update of one sample: it passes three networks, and so is the larger of the two updates."""
    large: FakeUpdate
    """The same of `micro_batch` samples."""
    micro_batch: int
    """2 or more."""
    flops: float
    """Of an iteration, per image."""

    def peak(self, micro_batch: int) -> dict[str, int]:
        """Bytes by part at the peak of a micro-batch: on the line through both sizes."""
        share = (micro_batch - 1) / (self.micro_batch - 1)
        return {part: round(small + share * (self.large.peak[part] - small)) for part, small in self.small.peak.items()}


def measure(
    config: Mapping[str, Any],
    recipe: Recipe,
    settings: Settings,
    again: bool,
    gpu: bool,
    report: Callable[[str], None] = lambda _: None,
) -> IterationNeeds:
    """Imagine what one micro-batch after another does.

    Args:
        config: of the teacher's UNet.
        recipe: whose guidance and micro-batch.
        settings: the precision and whether activations are computed again.
        again: whether an update has several micro-batches, so that gradients wait beside activations.
        gpu: whether dtypes follow a GPU's rules.
        report: receives a line before each part of the work.
    """
    keeping = "computed again" if settings.activation_checkpointing else "kept"
    report(f"imagining an iteration in {settings.precision}, activations {keeping} ...")
    iteration = FakeIteration(config, recipe, settings, gpu)
    micro_batch = max(2, recipe.micro_batch)
    passes = {update: iteration.run(update, 1, again) for update in UPDATES}
    return IterationNeeds(
        small=passes["generator"],
        large=iteration.run("generator", micro_batch, again),
        micro_batch=micro_batch,
        flops=sum(each.flops for each in passes.values()),
    )
