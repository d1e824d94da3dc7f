"""Distributed processes: rank and world size, forks on CPUs, and collectives besides the gradients."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from sidlsg.runtime.errors import InputError, SidlsgError, first_line
from sidlsg.runtime.hardware import best_device, cpu_quota, host_memory

PATIENCE = timedelta(minutes=60)
"""Timeout of collectives: longer than the slowest checkpoint or evaluation on one rank."""
WEIGHTS_COPIES = 6
"""Memory of a sampling process as a multiple of its weight files: float32 for float16, and activations."""
PROCESS_MEMORY = 3 * 2**29
"""Memory of a sampling process besides: an evaluation with the bundled judge took 1.5 GB with tiny networks."""
_PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>."""
_LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
"""Parts of the RuntimeErrors that libraries raise when another process is gone."""


class LostError(SidlsgError):
    """Another process of the run is gone."""


@dataclass(frozen=True)
class World:
    """One process among `size`; by default the only one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    background: Any = None
    """A process group for checkpoints, which are written during training; None for one process."""

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes the shared outputs."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """This process's samples of the global batch; raises InputError if that does not divide evenly."""
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
        """The values of all processes, at each; not while a checkpoint is written, which uses the same group."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.background)
        return values


def started_as_many() -> bool:
    """Whether torchrun, or a launcher like it, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_rank0() -> bool:
    """`World.is_rank0` by torchrun's variable, before the processes have joined."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device() -> torch.device:
    """The device of this process; raises InputError if this machine has more processes than GPUs."""
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


def own_processes(*networks: Path) -> int:
    """The number of processes for divisible work on this machine's CPUs.

    It is one a CPU, fewer with too little memory for the networks of these folders in each, and 1 on GPUs, under
    torchrun, and if `OMP_NUM_THREADS` is set.
    """
    if started_as_many() or torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ:
        return 1
    weights = sum(path.stat().st_size for folder in networks for path in folder.rglob("*.safetensors"))
    memory, cpus = host_memory(processes=1), cpu_quota()
    fit = cpus if memory is None else memory // (PROCESS_MEMORY + WEIGHTS_COPIES * weights)
    return max(1, min(cpus, fit))


@contextlib.contextmanager
def joined(processes: int = 1) -> Iterator[World]:
    """The world of this process: torchrun's, or `processes` on CPUs: this one as rank 0 and forks of it.

    The block runs in all of them; forks end with it. Under torchrun, `processes` is ignored.

    Raises:
        InputError: torchrun's variables do not fit this machine.
        SidlsgError: another process ended before its work was done.
    """
    if started_as_many():
        device = own_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with _group(device) as world:
            yield world
    elif processes > 1:
        with _forked(processes) as world:
            yield world
    else:
        yield World(device=best_device())


@contextlib.contextmanager
def _group(device: torch.device, **rendezvous: Any) -> Iterator[World]:
    """Join the process group, and leave it at the end."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE, **rendezvous)
    world = None
    try:
        world = World(
            rank=dist.get_rank(),
            size=dist.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            device=device,
            background=dist.new_group(backend="gloo", timeout=PATIENCE),
        )
        yield world
    except RuntimeError as error:
        if not _is_loss(error):
            raise
        raise LostError(
            "another process of the run ended or does not answer: see its log, or the system's; "
            f"the same command again resumes from the last checkpoint ({first_line(error)[:200]})"
        ) from error
    finally:
        dist.destroy_process_group()
        if world is not None:
            # A later fork has none of its threads, and must not be the one that destroys it.
            object.__setattr__(world, "background", None)


@contextlib.contextmanager
def _forked(size: int) -> Iterator[World]:
    """Run the block in this process and in `size - 1` forks, which share its memory."""
    rank, writer = 0, -1
    children: dict[int, int] = {}
    variables = {"LOCAL_WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")}
    earlier = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    with tempfile.TemporaryDirectory() as folder:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        parent = os.getpid()
        gc.collect()
        for number in range(1, size):
            reader, writer = os.pipe()
            pid = fork()
            if not pid:
                rank = number
                end_with(parent)
                os.environ["LOCAL_RANK"] = str(number)
                # Only rank 0 prints.
                sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until this process ends
                os.dup2(sys.stdout.fileno(), 1)
                break
            os.close(writer)
            children[pid] = reader
        rendezvous = f"file://{folder}/rendezvous"
        try:
            with _group(torch.device("cpu"), init_method=rendezvous, rank=rank, world_size=size) as world:
                try:
                    yield world
                except BaseException as error:
                    if rank:
                        # Before its connections close, by which the others notice.
                        _leave(writer, error)
                    raise
            if rank:
                os._exit(0)
        except BaseException as error:
            if rank:
                os._exit(1)
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            reported = next(filter(None, (os.read(reader, 1 << 16) for reader in children.values())), b"")
            if isinstance(error, LostError) and reported:
                raise _reported(reported) from error
            raise
        finally:
            for pid, reader in children.items():
                os.close(reader)
                os.waitpid(pid, 0)
            for name, value in earlier.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def fork() -> int:
    """`os.fork` with a child whose garbage collector ignores this process's objects.

    Collecting an earlier process group would hang in the child, which lacks its threads.
    """
    gc.freeze()
    pid = os.fork()
    if pid:
        gc.unfreeze()
    return pid


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _leave(writer: int, error: BaseException) -> NoReturn:
    """End this fork; rank 0 raises its error, unless that is the loss of another process."""
    if not (isinstance(error, KeyboardInterrupt) or _is_loss(error)):
        text = str(error)
        if not isinstance(error, SidlsgError):
            traceback.print_exception(error)
            text = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps({"text": text[:4000], "exit_code": getattr(error, "exit_code", 1)}).encode())
    os._exit(1)


def _reported(data: bytes) -> SidlsgError:
    """A fork's error, with its exit code."""
    report = json.loads(data)
    error = SidlsgError(report["text"])
    error.exit_code = report["exit_code"]
    return error


def _is_loss(error: BaseException) -> bool:
    """Whether libraries raised it because another process is gone."""
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _LOST)
