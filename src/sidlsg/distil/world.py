"""The processes that train together: who this one is, and what they tell each other outside the gradients."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sidlsg.errors import InputError, SidlsgError
from sidlsg.hardware import best_device

PATIENCE = timedelta(minutes=60)
"""How long a process waits for the others: longer than the slowest checkpoint or evaluation of one of them."""
_LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
"""Parts of what the libraries say, without an error type of its own, when another process is gone."""


@dataclass(frozen=True)
class World:
    """One process among `size`; the default is alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    background: Any = None
    """A process group of its own for checkpoints, which are written while training goes on; None for one process."""

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Which samples of the global batch this process computes.

        Raises:
            InputError: the batch does not divide evenly.
        """
        if batch % self.size:
            allowed = [n for n in range(1, 2 * self.size + 1) if batch % n == 0]
            raise InputError(
                f"batch {batch} does not divide among {self.size} processes; "
                f"start {', '.join(map(str, allowed))} processes, or change the batch"
            )
        each = batch // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """One value of every process, at every process; not while a checkpoint is written, which has the same group."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.background)
        return values


def started_as_many() -> bool:
    """Whether torchrun (or what speaks like it) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Whether this process writes what is written once, known before the processes joined."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device() -> torch.device:
    """The device of this process.

    Raises:
        InputError: there are more processes on this machine than GPUs.
    """
    device = best_device()
    if device.type != "cuda" or not started_as_many():
        return device
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank} of this machine has no GPU of its own: {torch.cuda.device_count()} are here; "
            "give torchrun as many --nproc-per-node as there are GPUs"
        )
    return torch.device("cuda", local_rank)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The world that this process was started in: alone, or one of torchrun's.

    Raises:
        InputError: torchrun's variables do not fit this machine.
    """
    if not started_as_many():
        yield World(device=best_device())
        return
    device = own_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(
            rank=dist.get_rank(),
            size=dist.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            device=device,
            background=dist.new_group(backend="gloo", timeout=PATIENCE),
        )
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LOST):
            raise
        raise SidlsgError(
            "another process of the run ended or does not answer: see what it said, or the system's log where it said "
            f"nothing; the same command again goes on from the last checkpoint ({str(error).splitlines()[0][:200]})"
        ) from error
    finally:
        dist.destroy_process_group()
