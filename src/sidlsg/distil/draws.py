"""What an iteration draws, as a function of (seed, iteration, which update, index in the global batch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sidlsg.runtime.randomness import counted
from sidlsg.teacher.embeddings import BLOCK

Update = Literal["fake_score", "generator"]
UPDATES: tuple[Update, ...] = ("fake_score", "generator")
T_MIN, T_MAX = 20, 979
"""t is uniform on {20, …, 979}, both ends included."""


@dataclass(frozen=True)
class Draws:
    """The random part of samples start..stop-1 of one update's global batch."""

    prompts: tuple[int, ...]
    """Index of each sample's prompt."""
    replaced: tuple[bool, ...]
    """Whether the empty prompt takes its place."""
    z: Tensor
    """[B, C, H, W] float32: the generator's noise."""
    noise: Tensor
    """[B, C, H, W] float32: ε."""
    t: Tensor
    """[B] long."""

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """Everything that decides what is drawn; micro-batches, restarts and world size are not part of it."""

    seed: int
    batch: int
    """The global batch."""
    prompt_count: int
    latent_shape: tuple[int, int, int]
    """(C, H, W)."""
    prompt_dropout: float
    """Probability that the fake score's update sees the empty prompt; the generator's never does."""

    def draw(self, iteration: int, update: Update, start: int, stop: int) -> Draws:
        """The draws of samples start..stop-1 of this update."""
        rows = [counted(self.seed, f"distil/{update}", iteration, index) for index in range(start, stop)]
        dropout = self.prompt_dropout if update == "fake_score" else 0.0
        # The order of draws within a sample's stream is part of the result: do not reorder.
        replaced = tuple(bool(row.random() < dropout) for row in rows)
        t = np.array([row.integers(T_MIN, T_MAX, endpoint=True) for row in rows], np.int64)
        z = np.stack([row.standard_normal(self.latent_shape, dtype=np.float32) for row in rows])
        noise = np.stack([row.standard_normal(self.latent_shape, dtype=np.float32) for row in rows])
        prompts = tuple(self._prompt_at(iteration, update, index) for index in range(start, stop))
        return Draws(prompts, replaced, torch.from_numpy(z), torch.from_numpy(noise), torch.from_numpy(t))

    def parts(self, share: range, size: int) -> Iterator[range]:
        """A share of the batch in parts of at most `size` samples."""
        for start in range(share.start, share.stop, size):
            yield range(start, min(start + size, share.stop))

    def _prompt_at(self, iteration: int, update: Update, index: int) -> int:
        """Prompts pass in shuffled epochs; both updates take from the same pass, so none sees a prompt twice."""
        position = (iteration * len(UPDATES) + UPDATES.index(update)) * self.batch + index
        epoch, place = divmod(position, self.prompt_count)
        # Blocks in shuffled order, and shuffled within: only one block's prompts are needed at a time.
        order, short = _block_order(self.seed, epoch, -(-self.prompt_count // BLOCK))
        before = short * BLOCK
        size_of_short = self.prompt_count - (len(order) - 1) * BLOCK
        if before <= place < before + size_of_short:
            turn, place = short, place - before
        elif place < before:
            turn, place = divmod(place, BLOCK)
        else:
            turn, place = divmod(place - size_of_short, BLOCK)
            turn += 1
        block = int(order[turn])
        size = size_of_short if turn == short else BLOCK
        return block * BLOCK + int(_order_in_block(self.seed, epoch, block, size)[place])


@lru_cache(maxsize=4)
def _block_order(seed: int, epoch: int, count: int) -> tuple[np.ndarray, int]:
    """The order of an epoch's blocks, and at which turn the last block comes, which may be shorter."""
    order = counted(seed, "distil/blocks", epoch).permutation(count)
    return order, int(np.flatnonzero(order == count - 1)[0])


@lru_cache(maxsize=4)  # a batch touches two blocks at most, unless there are fewer prompts than samples
def _order_in_block(seed: int, epoch: int, block: int, size: int) -> np.ndarray:
    return counted(seed, "distil/prompts", epoch, block).permutation(size)
