"""The machine: quotas of a container, threads, and the device in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sidlsg.runtime.hardware import (
    SMALL,
    best_device,
    cpu_quota,
    device_name,
    plain_float32,
    sampling_threads,
    set_threads,
)


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("max 100000\n", 8),
        ("", 8),
        ("what is this\n", 8),
    ],
)
def test_the_quota_cuts_the_cpus(tmp_path: Path, content: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_quota(tmp_path) == expected


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(("quota", "expected"), [("250000\n", 2), ("-1\n", 8), ("6400000\n", 8), ("", 8)])
def test_a_quota_of_the_older_control_groups_counts_too(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == expected


@pytest.mark.usefixtures("eight_cpus")
def test_without_a_control_group_the_affinity_counts(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none") == 8


@pytest.mark.usefixtures("threads")
def test_threads_are_the_quota_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidlsg.runtime.hardware.cpu_quota", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert set_threads() == 3
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads() == 1


def test_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, name in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert best_device().type == name
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card as {device}")
    assert device_name(torch.device("cuda", 0)) == "a card as cuda:0"
    words = device_name(torch.device("cpu"))
    assert words.startswith("CPU (")
    assert f"{torch.get_num_threads()} threads" in words


@pytest.fixture
def tf32() -> Iterator[None]:
    """TF32 allowed everywhere. By hand: these are no attributes that monkeypatch could put back."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.usefixtures("tf32")
def test_plain_float32_is_neither_tf32_nor_autocast_and_leaves_things_as_they_were() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with torch.autocast("cpu", torch.bfloat16), plain_float32(torch.device("cpu")):
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)


def test_small_networks_are_sampled_with_one_thread(tmp_path: Path) -> None:
    assert sampling_threads(tmp_path) == 1
    (tmp_path / "transformer").mkdir()
    with (tmp_path / "transformer" / "weights.safetensors").open("wb") as file:
        file.truncate(SMALL)
    assert sampling_threads(tmp_path) == 0
