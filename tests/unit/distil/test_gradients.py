from __future__ import annotations

import math

import torch
from torch import nn

from sidlsg.distil.gradients import clean_gradients, finite_samples


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
