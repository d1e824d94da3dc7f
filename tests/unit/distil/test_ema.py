from __future__ import annotations

import pytest
import torch
from torch import nn

from sidlsg.distil.step import ema_decay, update_ema


def test_the_first_batch_copies() -> None:
    assert ema_decay(64, 0, 50_000) == 0


def test_early_half_life_is_a_twentieth_of_the_images_seen() -> None:
    # 64 images, of which the half-life is 0.05 · 12,800 = 640: a tenth of a half-life.
    assert ema_decay(64, 12_800, 50_000) == pytest.approx(0.5 ** (64 / 640))


def test_later_the_half_life_itself_counts() -> None:
    assert ema_decay(512, 2_000_000, 50_000) == pytest.approx(0.5 ** (512 / 50_000))


def test_one_half_life_halves_the_distance() -> None:
    ema, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(ema.weight, 0.0)
    nn.init.constant_(model.weight, 8.0)
    for _ in range(10):
        update_ema(ema, model, ema_decay(100, 10**9, 1000))
    assert ema.weight.item() == pytest.approx(4.0, rel=1e-5)
    update_ema(ema, model, 0.0)
    assert torch.equal(ema.weight, model.weight)
