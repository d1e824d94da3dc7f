"""What an iteration samples: prompts, timesteps and noises, by counters, and the student's x_g from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sidlsg.distil.few_steps import ONE_STEP, FewSteps
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.conditioning import Conditioning
from sidlsg.teacher.schedule import NoiseSchedule, Schedule
from sidlsg.teacher.shards import BLOCK

Update = Literal["fake_score", "generator"]
UPDATES: tuple[Update, ...] = ("fake_score", "generator")


def generate_latents(
    unet: Any,
    schedule: Schedule,
    z: Tensor,
    cond: Conditioning,
    t_init: int = 625,
    steps: int = 1,
    noises: Tensor | None = None,
    *,
    step_noise: str = "fresh",
    last: int | None = None,
) -> Tensor:
    """x_g: the x0-prediction of G at (s_{t_init} z, t_init, c), refined for `steps` > 1; see `FewSteps`.

    Gradient flows through the last step alone.

    Args:
        unet: the generator G.
        schedule: the teacher's noise schedule.
        z: [B, C, H, W] standard normal.
        cond: [B, L, D] encoded prompts.
        t_init: the timestep of the first step.
        steps: K.
        noises: [last-1, B, C, H, W] noise of the later steps where `step_noise` is `fresh`.
        step_noise: how the later steps' noise is chosen, a name in `STEP_NOISES`.
        last: k, the step after which to stop, for x̂_k; K by default.

    Returns:
        [B, C, H, W] latents, float32 at least.

    Raises:
        InputError: `steps`, `t_init` or `noises` do not fit.
    """
    if not 1 <= t_init <= schedule.last:
        raise InputError(f"t_init is {t_init}; allowed: 1 to {schedule.last}")
    plan = FewSteps(t_init=t_init, count=steps, noise=step_noise)
    k = steps if last is None else last
    given, needed = 0 if noises is None else len(noises), plan.fresh_noises(k)
    if given != needed:
        raise InputError(f"{k} steps need {needed} fresh noises; {given} were given")
    x_g, noise = torch.zeros_like(z), z
    for i, timestep in enumerate(plan.timesteps[:k]):
        with torch.set_grad_enabled(torch.is_grad_enabled() and i == k - 1):
            t = torch.full((len(z),), timestep, dtype=schedule.time_dtype, device=z.device)
            x = schedule.add_noise(x_g, noise, t)
            x_g = schedule.x0(unet(x, t, cond).sample, x, t)
            if i < k - 1:
                fresh = noises[i] if noises is not None and needed else None
                noise = plan.following_noise(z, fresh, partial(schedule.implied_noise, x, x_g, t))
    return x_g


@dataclass(frozen=True)
class Draws:
    """The random part of samples start..stop-1 of one update's global batch."""

    prompts: tuple[int, ...]
    """Index of each sample's prompt."""
    replaced: tuple[bool, ...]
    """Whether the empty prompt replaces each sample's prompt."""
    z: Tensor
    """[B, C, H, W] float32: the generator's noise."""
    noise: Tensor
    """[B, C, H, W] float32: ε."""
    t: Tensor
    """[B]: the schedule's times."""
    real: tuple[int, ...] = ()
    """Index of each sample's real image, for the fake score's update where there are some."""
    step: int = 1
    """k: the generator's step of this iteration, whose x̂_k is x_g."""
    step_noises: Tensor | None = None
    """[k-1, B, C, H, W] float32: the fresh noises of the steps after the first; None for none."""


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """All that decides what an update samples; micro-batches, restarts and world size are not part of it."""

    seed: int
    batch: int
    """The global batch."""
    prompt_count: int
    latent_shape: tuple[int, int, int]
    """(C, H, W)."""
    prompt_dropout: float
    """Probability that the fake score's update sees the empty prompt; the generator's never does."""
    real_count: int = 0
    """Real images; 0 for none."""
    steps: FewSteps = ONE_STEP
    """The student's."""
    sample_time: Callable[[np.random.Generator], np.generic] = NoiseSchedule.sample_time
    """The schedule's."""

    def draw(self, iteration: int, update: Update, start: int, stop: int) -> Draws:
        """Samples start..stop-1 of this update: functions of (seed, iteration, update, index in the global batch)."""
        rows = [counted(self.seed, f"distil/{update}", iteration, index) for index in range(start, stop)]
        dropout = self.prompt_dropout if update == "fake_score" else 0.0
        # The order of draws within a sample's stream is part of the result: do not reorder.
        replaced = tuple(bool(row.random() < dropout) for row in rows)
        t = np.array([self.sample_time(row) for row in rows])
        z = np.stack([row.standard_normal(self.latent_shape, dtype=np.float32) for row in rows])
        noise = np.stack([row.standard_normal(self.latent_shape, dtype=np.float32) for row in rows])
        prompts = tuple(self._prompt_at(iteration, update, index) for index in range(start, stop))
        real: tuple[int, ...] = ()
        if self.real_count and update == "fake_score":
            positions = range(iteration * self.batch + start, iteration * self.batch + stop)
            real = tuple(self._at(position, self.real_count, "real images") for position in positions)
        k = self.steps.trained(self.seed, iteration)
        return Draws(
            prompts=prompts,
            replaced=replaced,
            z=torch.from_numpy(z),
            noise=torch.from_numpy(noise),
            t=torch.from_numpy(t),
            real=real,
            step=k,
            step_noises=self._step_noises(iteration, update, range(start, stop), self.steps.fresh_noises(k)),
        )

    def _step_noises(self, iteration: int, update: Update, indices: range, count: int) -> Tensor | None:
        if not count:
            return None
        # Streams of their own: those of `draw` are as they are at one step.
        rows = [counted(self.seed, f"distil/{update}/steps", iteration, index) for index in indices]
        shape = (count, *self.latent_shape)
        return torch.from_numpy(np.stack([row.standard_normal(shape, dtype=np.float32) for row in rows], axis=1))

    def _prompt_at(self, iteration: int, update: Update, index: int) -> int:
        """Prompts pass in shuffled epochs; both updates take from the same pass, so none sees a prompt twice."""
        position = (iteration * len(UPDATES) + UPDATES.index(update)) * self.batch + index
        return self._at(position, self.prompt_count, "prompts")

    def _at(self, position: int, count: int, what: str) -> int:
        """The index, below `count`, at a position of shuffled epochs."""
        epoch, offset = divmod(position, count)
        # Blocks in shuffled order, and shuffled within: only one block's rows are needed at a time.
        order, turn_of_last = _block_order(self.seed, epoch, -(-count // BLOCK), what)
        size_of_last = count - (len(order) - 1) * BLOCK
        if offset >= turn_of_last * BLOCK + size_of_last:
            offset += BLOCK - size_of_last  # as if the last block were whole
        turn, offset = divmod(offset, BLOCK)
        block = int(order[turn])
        size = size_of_last if turn == turn_of_last else BLOCK
        return block * BLOCK + int(_order_in_block(self.seed, epoch, block, size, what)[offset])


@lru_cache(maxsize=8)
def _block_order(seed: int, epoch: int, count: int, what: str) -> tuple[np.ndarray, int]:
    """The order of an epoch's blocks, and at which turn the last block comes, which may be shorter."""
    stream = "distil/blocks" if what == "prompts" else f"distil/blocks of {what}"
    order = counted(seed, stream, epoch).permutation(count)
    return order, int(np.flatnonzero(order == count - 1)[0])


@lru_cache(maxsize=8)  # a batch touches two blocks at most, unless there are fewer rows than samples
def _order_in_block(seed: int, epoch: int, block: int, size: int, what: str) -> np.ndarray:
    return counted(seed, f"distil/{what}", epoch, block).permutation(size)
