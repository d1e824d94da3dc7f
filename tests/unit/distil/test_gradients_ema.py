"""Gradients are cleaned and measured, and the EMA follows by half-life."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sidlsg.distil.step import clean_gradients, ema_decay, gradient_norm, update_ema


def test_nan_becomes_zero_and_infinity_is_cut() -> None:
    parameter, frozen = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([math.nan, math.inf, -math.inf, 2.0])
    clean_gradients([parameter, frozen])
    assert parameter.grad.tolist() == [0.0, 1e5, -1e5, 2.0]
    assert frozen.grad is None


def test_a_clip_bounds_every_element() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([math.inf, -7.0, 0.5, -1.0])
    clean_gradients([parameter], clip=1.0)
    assert parameter.grad.tolist() == [1.0, -1.0, 0.5, -1.0]


def test_the_norm_is_over_all_gradients() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert float(gradient_norm(parameters)) == 5


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
