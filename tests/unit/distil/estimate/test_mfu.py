"""MFU by hand."""

from __future__ import annotations

import pytest
import torch

from sidlsg.distil.estimate.devices import Gpu
from sidlsg.distil.estimate.speed import mfu_of
from sidlsg.distil.recipes import get_recipe, recipe_with_changes
from sidlsg.teacher.architectures import Architecture

CUDA = torch.device("cuda")


def test_mfu_counts_the_models_own_work_on_all_devices(small: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(name="a GPU", memory=2**30, peaks={"fp32": 1e12})
    monkeypatch.setattr("sidlsg.distil.estimate.speed.local_gpu", lambda _: gpu)
    recomputing = recipe_with_changes("tiny", '{"activation_checkpointing": true}')
    found = [mfu_of(small, recipe, 2, CUDA) for recipe in (get_recipe("tiny"), recomputing)]
    assert found[0] is not None and found[1] is not None
    assert found[0](20.0) == found[1](20.0) == pytest.approx(10 * found[0](2.0))
    # A full UNet, with 64 times as many values an image, takes 14.9e12 FLOPs; this one a few thousandths of that.
    assert 1e9 < found[0](1.0) * 2 * 1e12 < 1e11


def test_without_a_known_peak_there_is_no_mfu(small: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mfu_of(small, get_recipe("tiny"), 1, torch.device("cpu")) is None
    monkeypatch.setattr("sidlsg.distil.estimate.speed.local_gpu", lambda _: Gpu(name="new", memory=1, peaks={}))
    assert mfu_of(small, get_recipe("tiny"), 1, CUDA) is None
