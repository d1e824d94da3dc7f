"""GPUs by name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sidlsg.distil.estimate.devices import DEFAULT, GPUS, chosen_gpu, get_gpu, local_gpu
from sidlsg.distil.recipes import CHOICES
from sidlsg.runtime.errors import InputError


def test_every_gpu_knows_a_peak_for_every_precision() -> None:
    for name, gpu in GPUS.items():
        assert gpu.name == name
        assert set(gpu.peaks) == set(CHOICES["precision"])
        assert gpu.peaks["bf16"] >= gpu.peaks["tf32"] >= gpu.peaks["fp32"] > 1e12
        assert 20e9 < gpu.memory < 200e9


def test_an_unknown_gpu_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"GPU 'h-100' is unknown \(did you mean 'h100'\?\); allowed: h200"):
        get_gpu("h-100")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, and then is the default")
def test_the_default_is_a_name_in_the_table() -> None:
    assert chosen_gpu() is GPUS[DEFAULT]


def test_another_size_of_memory_can_be_given() -> None:
    gpu = chosen_gpu("a100", 24)
    assert (gpu.name, gpu.memory, gpu.peaks) == ("a100 with 24 GB", 24_000_000_000, GPUS["a100"].peaks)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-PCIE-40GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        # Slower than the row.
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A1000", None),
    ],
)
def test_a_local_gpu_has_the_peaks_of_its_row(monkeypatch: pytest.MonkeyPatch, name: str, row: str | None) -> None:
    properties = SimpleNamespace(name=name, total_memory=123)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    gpu = local_gpu(torch.device("cuda", 0))
    assert (gpu.name, gpu.memory) == (name, 123)
    assert gpu.peaks == (GPUS[row].peaks if row else {})
