"""An iteration of a recipe on fake tensors: the memory of its passes at the peak, and their FLOPs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sidlsg.distil.adversarial import Adversary, RealImages, feature_block_of
from sidlsg.distil.estimate.fake_networks import FakeMode, StorageTracker, fake_network
from sidlsg.distil.losses import Method
from sidlsg.distil.networks import COMPUTE, autocasting
from sidlsg.distil.recipes import Recipe, Settings
from sidlsg.distil.sampler import UPDATES, DrawPlan, Draws, Update
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import accumulate
from sidlsg.teacher.architectures import Architecture
from sidlsg.teacher.conditioning import Conditioning, of_shapes
from sidlsg.teacher.schedule import FlowSchedule, NoiseSchedule, Schedule

TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True)
class _ShapesOnly(DrawPlan):
    """Tensors of the right shapes, without sampling."""

    step: int
    """The step that is trained."""
    time_dtype: torch.dtype

    def draw(self, iteration: int, update: Update, start: int, stop: int) -> Draws:  # noqa: ARG002
        """Samples start..stop-1, none of their prompts replaced."""
        count = stop - start
        z, noise = (torch.empty(count, *self.latent_shape) for _ in range(2))
        fresh = self.steps.fresh_noises(self.step)
        return Draws(
            prompts=(0,) * count,
            replaced=(False,) * count,
            z=z,
            noise=noise,
            t=torch.empty(count, dtype=self.time_dtype),
            step=self.step,
            step_noises=torch.empty(fresh, *z.shape) if fresh else None,
            real=(0,) * count if self.real_count and update == "fake_score" else (),
        )


class _GpuState(TrainingState):
    """As on a GPU, attention stays in autocast's precision; on a CPU it would be in float32."""

    def call(self, network: nn.Module) -> Callable[..., Any]:
        return self.family.takes(autocasting(network, self.settings.precision, self.world.device, gpu=True))


class FakeIteration:
    """A recipe's networks on fake tensors, through which micro-batches pass."""

    def __init__(self, shape: Architecture, recipe: Recipe, settings: Settings, gpu: bool) -> None:
        """Build the networks.

        Args:
            shape: the teacher's.
            recipe: with the guidance.
            settings: precision and activation checkpointing; offloading is not simulated.
            gpu: whether dtypes follow a GPU's rules.
        """
        self._shape, self._recipe = shape, recipe
        # Compiled blocks fuse operations, which saves memory that cannot be relied on.
        settings = replace(settings, optimizer="adam", optimizer_offload=False, ema_offload=False, compile=False)
        self.mode = FakeMode()
        with warnings.catch_warnings(), self.mode:
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
            half = COMPUTE[settings.precision] is not None
            teacher = fake_network(shape, gpu_norms=gpu and half)
            state = _GpuState if gpu else TrainingState
            self.state = state.start(teacher, recipe.lr, recipe.fake_score_lr, settings=settings)
            schedule: Schedule = FlowSchedule()
            if not shape.family.flows:
                schedule = NoiseSchedule(torch.empty(TIMESTEPS, dtype=torch.float64), "epsilon")
            self.method = Method(
                teacher=self.state.call(self.state.frozen(teacher)),
                schedule=schedule,
                guidance=recipe.guidance,
                alpha=recipe.alpha,
                steps=replace(recipe.few_steps, t_init=min(recipe.t_init, schedule.last)),
                adversary=self._adversary(),
            )
            self._teacher = teacher

    def _adversary(self) -> Adversary | None:
        """The adversarial term, in the generator's loss from the start."""
        term = self._recipe.adversarial_term
        if term is None:
            return None

        def latents(indices: Sequence[int]) -> Tensor:
            return torch.empty(len(indices), *self._latent_shape)

        return Adversary(
            term=replace(term, freeze=0, join=0),
            feature_block=feature_block_of(self.state.fake_score),
            images=RealImages(count=1, latents=latents, encode=self.encode),
        )

    @property
    def _latent_shape(self) -> tuple[int, int, int]:
        return self._shape.family.latent_shape(self._shape.config)

    def encode(self, _: Sequence[int], replaced: Sequence[bool]) -> tuple[Conditioning, Conditioning]:
        """Conditioning of the right shape."""
        shapes = self._shape.conditioning
        return of_shapes(shapes, len(replaced)), of_shapes(shapes, 1)

    def plan(self, batch: int, step: int = 1) -> DrawPlan:
        """A plan whose samples have the right shapes, and train this step."""
        return _ShapesOnly(
            seed=0,
            batch=batch,
            prompt_count=batch,
            latent_shape=self._latent_shape,
            prompt_dropout=self._recipe.prompt_dropout,
            steps=self._recipe.few_steps,
            time_dtype=self.method.schedule.time_dtype,
            step=step,
            real_count=1 if self.method.adversary else 0,
        )

    def run(self, update: Update, micro_batch: int, accumulated: bool, step: int = 1) -> StorageTracker:
        """One micro-batch of one update, forward and backward; `accumulated`: after an earlier micro-batch.

        `step` is the one that is trained, of a student of several.

        Returns:
            Its peak, without persistent tensors, and its FLOPs, with those of activation checkpointing.
        """
        network = getattr(self.state, update)
        with self.mode:
            tracker = StorageTracker(network, (self.state.generator, self.state.fake_score, self._teacher))
            if accumulated:
                tracker.add_gradients()
            with tracker:
                accumulate(self.state, self.method, self.plan(micro_batch, step), self.encode, micro_batch, update)
            network.zero_grad(set_to_none=True)
        return tracker

    def flops(self, of_last: float | None = None) -> float:
        """FLOPs of an iteration, per image; `of_last` are those of an iteration that trains the last step, if known.

        Each step takes one forward pass more than the one before, so the mean is that of the first and the last.
        """
        steps = self._recipe.steps

        def of(step: int) -> float:
            return sum(self.run(update, 1, accumulated=False, step=step).flops for update in UPDATES)

        last = of(steps) if of_last is None else of_last
        return last if steps == 1 else (of(1) + last) / 2


@dataclass(frozen=True, kw_only=True)
class IterationNeeds:
    """Memory and FLOPs of an iteration, from micro-batches of two sizes."""

    small: Mapping[str, int]
    """Bytes by part at the peak of one sample's larger update: the generator's, unless real images pass in the fake
    score's."""
    large: Mapping[str, int]
    """The same for `micro_batch` samples."""
    micro_batch: int
    """2 or more."""
    flops: float
    """FLOPs of an iteration, per image."""

    def peak(self, micro_batch: int) -> dict[str, int]:
        """Bytes by part at the peak of a micro-batch, by linear interpolation."""
        share = (micro_batch - 1) / (self.micro_batch - 1)
        return {part: round(small + share * (self.large[part] - small)) for part, small in self.small.items()}


def measure(
    shape: Architecture,
    recipe: Recipe,
    settings: Settings,
    accumulated: bool,
    gpu: bool,
    report: Callable[[str], None] = lambda _: None,
) -> IterationNeeds:
    """Simulate an iteration on fake tensors.

    Args:
        shape: the teacher's.
        recipe: with the guidance and the micro-batch.
        settings: the precision and activation checkpointing.
        accumulated: whether an update has several micro-batches, so that gradients are kept along with activations.
        gpu: whether dtypes follow a GPU's rules.
        report: receives a line before the work, which takes seconds.
    """
    activations = "recomputed" if settings.activation_checkpointing else "kept"
    report(f"simulating an iteration in {settings.precision}, activations {activations} ...")
    iteration = FakeIteration(shape, recipe, settings, gpu)
    micro_batch, last = max(2, recipe.micro_batch), recipe.steps
    single = {update: iteration.run(update, 1, accumulated, last) for update in UPDATES}
    larger: tuple[Update, ...] = UPDATES if recipe.adversarial else ("generator",)
    return IterationNeeds(
        small=max((single[update].peak for update in larger), key=_total),
        large=max((iteration.run(update, micro_batch, accumulated, last).peak for update in larger), key=_total),
        micro_batch=micro_batch,
        flops=iteration.flops(sum(each.flops for each in single.values())),
    )


def _total(parts: Mapping[str, int]) -> int:
    return sum(parts.values())
