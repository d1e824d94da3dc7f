"""One process alone, and forks; processes of torchrun are in tests/distributed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from forked import Program
from sidlsg.runtime.distributed import PROCESS_MEMORY, World, joined, own_processes
from sidlsg.runtime.errors import InputError, SidlsgError


def test_alone_is_the_default() -> None:
    with joined() as world:
        assert (world.rank, world.size, world.is_rank0) == (0, 1, True)
        assert world.share(7) == range(7)
        assert world.gather("a") == ["a"]
        assert torch.equal(world.total(torch.tensor([2.0])), torch.tensor([2.0]))
        world.barrier()


def test_shares_are_equal_parts_in_order() -> None:
    assert [World(rank=rank, size=4).share(8) for rank in range(4)] == [range(2), range(2, 4), range(4, 6), range(6, 8)]
    assert not World(rank=1, size=2).is_rank0


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers_that_do() -> None:
    with pytest.raises(InputError, match="batch 64 does not divide among 3 processes; start 1, 2, 4 processes"):
        World(rank=0, size=3).share(64)


def test_forks_share_the_work_and_end_with_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    with joined(3) as world:
        pids = world.gather(os.getpid())
        total = world.total(torch.tensor([float(world.rank)]))
        local_ranks = world.gather(world.local_rank)
        print(f"rank {world.rank}")  # noqa: T201
    assert (world.rank, world.size, float(total)) == (0, 3, 3.0)
    assert local_ranks == [0, 1, 2]
    assert pids[0] == os.getpid()
    assert len(set(pids)) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids[1:])
    assert capfd.readouterr().out == "rank 0\n"
    assert dict(os.environ) == before


def test_what_all_processes_find_is_raised_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="batch 3 does not divide"), joined(2) as world:
        world.share(3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (InputError("the disk is full"), "the disk is full", InputError.exit_code),
        (KeyError("unet"), "KeyError: 'unet'", 1),
        (MemoryError(), "MemoryError: ", 1),
        (ConnectionResetError("Connection reset by peer"), "ConnectionResetError: Connection reset by peer", 1),
    ],
)
def test_what_only_a_fork_meets_is_raised_here(error: Exception, text: str, code: int) -> None:
    with pytest.raises(SidlsgError) as caught, joined(2) as world:
        if world.rank:
            raise error
        world.barrier()
    assert (str(caught.value), caught.value.exit_code) == (text, code)


def test_a_fork_does_not_destroy_what_an_earlier_world_left() -> None:
    """Its threads are not in the fork, which would wait for them for ever."""
    for _ in range(3):
        with joined(2) as world:
            left = [world]
            left.append(left)  # type: ignore[arg-type] # garbage that only a collector finds
            del left
            assert world.gather(gc.collect() >= 0) == [True, True]


def test_a_killed_fork_is_missed() -> None:
    with pytest.raises(SidlsgError, match="another process of the run ended"), joined(2) as world:
        if world.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        world.barrier()


def test_forks_end_with_a_killed_parent() -> None:
    code = (
        "import os, time\n"
        "from sidlsg.runtime.distributed import joined\n"
        "with joined(2) as world:\n"
        "    pids = world.gather(os.getpid())\n"
        "    if not world.rank:\n"
        "        print(*pids, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with Program(code=code, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        _, fork = map(int, process.stdout.readline().split())
        process.kill()
        process.wait()
        until = time.monotonic() + 10
        while Path(f"/proc/{fork}").exists():
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("variables", "memory", "expected"),
    [
        ({}, None, 4),
        ({}, 4 * (PROCESS_MEMORY + 6 * 20), 4),
        ({}, 4 * (PROCESS_MEMORY + 6 * 20) - 1, 3),
        ({}, 0, 1),
        ({"OMP_NUM_THREADS": "2"}, None, 1),
        ({"WORLD_SIZE": "2"}, None, 1),
    ],
)
def test_as_many_processes_as_cpus_and_memory_allow(
    variables: dict[str, str], memory: int | None, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"x" * 20)
    monkeypatch.setattr("sidlsg.runtime.distributed.cpu_quota", lambda: 4)
    monkeypatch.setattr("sidlsg.runtime.distributed.host_memory", lambda processes: memory)  # noqa: ARG005
    assert own_processes(tmp_path) == expected
