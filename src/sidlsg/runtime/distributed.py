"""The processes that train together: who this one is, and what they tell each other outside the gradients."""

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

from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.runtime.hardware import best_device, cpu_quota, host_memory

PATIENCE = timedelta(minutes=60)
"""How long a process waits for the others: longer than the slowest checkpoint or evaluation of one of them."""
WEIGHTS_COPIES = 6
"""Memory of a process that samples, as a multiple of its weights' files: float32 for float16, and activations."""
_PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>."""
_LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
"""Parts of what the libraries say, without an error type of its own, when another process is gone."""


class LostError(SidlsgError):
    """Another process of the run is gone."""


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


def is_rank0() -> bool:
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


def own_processes(*networks: Path) -> int:
    """How many processes are to share this machine's CPUs, for work that divides among them.

    Args:
        networks: folders whose weights each process loads.

    Returns:
        One for each CPU, which then have a thread each; 1 where memory is too small for so many, on GPUs, under
        torchrun, and where `OMP_NUM_THREADS` is set.
    """
    if started_as_many() or torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ:
        return 1
    each = WEIGHTS_COPIES * sum(path.stat().st_size for folder in networks for path in folder.rglob("*.safetensors"))
    memory = host_memory(processes=1)
    cpus = cpu_quota()
    return cpus if memory is None or cpus * each <= memory else 1


@contextlib.contextmanager
def joined(processes: int = 1) -> Iterator[World]:
    """The world of this process: torchrun's where it was started by that, forks of this process, or itself alone.

    Args:
        processes: how many are to share a block of work on this machine's CPUs. The block then runs in this process,
            which is rank 0, and in forks of it, which end with the block. Ignored under torchrun.

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
            "another process of the run ended or does not answer: see what it said, or the system's log where it said "
            f"nothing; the same command again goes on from the last checkpoint ({str(error).splitlines()[0][:200]})"
        ) from error
    finally:
        dist.destroy_process_group()
        if world is not None:
            # Its threads are here; a later fork, which has none of them, must not be what lets go of it last.
            object.__setattr__(world, "background", None)


@contextlib.contextmanager
def _forked(size: int) -> Iterator[World]:
    """Run the block in this process and in `size - 1` forks of it, which share what it has in memory already."""
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
        place = f"file://{folder}/rendezvous"
        try:
            with _group(torch.device("cpu"), init_method=place, rank=rank, world_size=size) as world:
                try:
                    yield world
                except BaseException as error:
                    if rank:
                        # Before its connections break, by which the others know that it is gone.
                        _leave(writer, error)
                    raise
            if rank:
                os._exit(0)
        except BaseException as error:
            if rank:
                os._exit(1)
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            said = next(filter(None, (os.read(reader, 1 << 16) for reader in children.values())), b"")
            if isinstance(error, LostError) and said:
                raise _reported(said) from error
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
    """`os.fork`, after which the child's garbage collector ignores the objects of this process.

    Collecting an earlier process group in the child would hang: its threads exist in the parent only.
    """
    gc.freeze()
    pid = os.fork()
    if pid:
        gc.unfreeze()
    return pid


def end_with(parent: int) -> None:
    """Let the kernel end this process when the one that forked it ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _leave(writer: int, error: BaseException) -> NoReturn:
    """End this fork; what it alone has met is for rank 0 to say."""
    if not (isinstance(error, KeyboardInterrupt) or _is_loss(error)):
        text = str(error)
        if not isinstance(error, SidlsgError):
            traceback.print_exception(error)
            text = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps({"text": text[:4000], "exit_code": getattr(error, "exit_code", 1)}).encode())
    os._exit(1)


def _reported(said: bytes) -> SidlsgError:
    """The error that a fork reported, with its exit code."""
    report = json.loads(said)
    error = SidlsgError(report["text"])
    error.exit_code = report["exit_code"]
    return error


def _is_loss(error: BaseException) -> bool:
    """Whether it is what the libraries raise when another process is gone."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST)
