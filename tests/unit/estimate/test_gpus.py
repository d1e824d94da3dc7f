"""GPUs by name."""

from __future__ import annotations

import pytest
import torch

from sidlsg.distil.settings import PRECISIONS
from sidlsg.errors import InputError
from sidlsg.estimate.gpus import DEFAULT, GPUS, chosen_gpu, get_gpu


def test_every_gpu_knows_a_peak_for_every_precision() -> None:
    for name, gpu in GPUS.items():
        assert gpu.name == name
        assert set(gpu.peaks) == set(PRECISIONS)
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
