"""MFU by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sidlsg.distil.estimate.devices import Gpu
from sidlsg.distil.estimate.speed import Utilisation, utilisation_of
from sidlsg.distil.recipes import get_recipe, recipe_with_changes


def test_all_devices_count():
    alone = Utilisation(flops_per_image=15e12, device_peak=1e15)
    assert alone.mfu(20.0) == pytest.approx(0.3)
    assert Utilisation(flops_per_image=15e12, device_peak=1e15, world_size=4).mfu(20.0) == pytest.approx(0.075)


def test_the_model_s_own_work_counts_and_not_what_is_computed_twice(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((assets / "tiny-sd" / "unet" / "config.json").read_text())
    gpu = Gpu(name="a GPU", memory=2**30, peaks={"fp32": 1e12})
    monkeypatch.setattr("sidlsg.distil.estimate.speed.gpu_at_hand", lambda _: gpu)
    found = [
        utilisation_of(config, recipe_with_changes("tiny", changes), 2, torch.device("cuda"))
        for changes in ("{}", '{"activation_checkpointing": true}')
    ]
    assert found[0] is not None
    assert found[0] == found[1]
    assert (found[0].device_peak, found[0].world_size) == (1e12, 2)
    # Of the larger UNet, 64 times as many values a picture, 14.9e12 are known; this one has a few thousandths of that.
    assert 1e9 < found[0].flops_per_image < 1e11


def test_where_the_peak_is_not_known_there_is_none(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((assets / "tiny-sd" / "unet" / "config.json").read_text())
    assert utilisation_of(config, get_recipe("tiny"), 1, torch.device("cpu")) is None
    monkeypatch.setattr("sidlsg.distil.estimate.speed.gpu_at_hand", lambda _: Gpu(name="new", memory=1, peaks={}))
    assert utilisation_of(config, get_recipe("tiny"), 1, torch.device("cuda")) is None
