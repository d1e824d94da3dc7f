from __future__ import annotations

import math

import torch
from torch import nn

from sidlsg.distil.losses import finite_samples
from sidlsg.distil.step import clean_gradients, gradient_norm


def test_nan_becomes_zero_and_infinity_is_cut() -> None:
    parameter, frozen = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([math.nan, math.inf, -math.inf, 2.0])
    clean_gradients([parameter, frozen])
    assert parameter.grad.tolist() == [0.0, 1e5, -1e5, 2.0]
    assert frozen.grad is None


def test_a_sample_is_finite_where_all_tensors_are() -> None:
    a, b = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    a[0, 1, 1] = math.nan
    b[2, 0, 0] = math.inf
    assert finite_samples(a, b).tolist() == [False, True, False]


def test_a_clip_bounds_every_element() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([math.inf, -7.0, 0.5, -1.0])
    clean_gradients([parameter], clip=1.0)
    assert parameter.grad.tolist() == [1.0, -1.0, 0.5, -1.0]


def test_the_norm_is_over_all_gradients() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert float(gradient_norm(parameters)) == 5
