"""The losses against values worked out by hand in float64 numpy, and their gradients by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sidlsg.distil.losses import fake_score_loss, finite_samples, generator_loss

SHAPE = (4, 2, 3, 3)


def arrays(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(SHAPE) for _ in range(count)]


def tensors(*values: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def test_fake_score_loss_is_the_weighted_sum_of_squares_over_the_batch() -> None:
    output, target = arrays(2)
    weight = np.array([1.0, 0.25, 0.5, 2.0])
    expected = sum(weight[b] * ((output[b] - target[b]) ** 2).sum() for b in range(4)) / 4
    loss = fake_score_loss(*tensors(output, target), torch.tensor(weight))
    assert loss.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("alpha", [1.0, 1.2])
@pytest.mark.parametrize("two_scales", [False, True])
def test_generator_loss_by_hand(alpha: float, two_scales: bool) -> None:
    x_g, y_real, y_fake, y_fake_3 = arrays(4)
    expected = 0.0
    for b in range(4):
        omega = np.abs(x_g[b] - y_real[b]).mean()
        third = y_fake_3[b] if two_scales else y_fake[b]
        for i in np.ndindex(SHAPE[1:]):
            first = y_real[b][i] - y_fake[b][i]
            second = (y_real[b][i] - x_g[b][i]) - alpha * (y_real[b][i] - third[i])
            expected += first * second / omega / 4
    x, r, f, f3 = tensors(x_g, y_real, y_fake, y_fake_3)
    loss = generator_loss(x, r, f, alpha, f3 if two_scales else None)
    assert loss.item() == pytest.approx(expected, rel=1e-13)


def test_generator_loss_at_alpha_one_is_the_short_form() -> None:
    x_g, y_real, y_fake = arrays(3)
    omega = np.abs(x_g - y_real).mean((1, 2, 3))
    expected = (((y_real - y_fake) * (y_fake - x_g)).sum((1, 2, 3)) / omega).sum() / 4
    assert generator_loss(*tensors(x_g, y_real, y_fake)).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("alpha", [1.0, 1.2])
def test_generator_loss_gradient_by_finite_differences_with_omega_held(alpha: float) -> None:
    values = arrays(4, seed=1)
    omega = np.abs(values[0] - values[1]).mean((1, 2, 3))

    def by_hand(x_g: np.ndarray, y_real: np.ndarray, y_fake: np.ndarray, y_fake_3: np.ndarray) -> float:
        each = ((y_real - y_fake) * (y_real - x_g - alpha * (y_real - y_fake_3))).sum((1, 2, 3))
        return float((each / omega).sum() / 4)

    inputs = tensors(*values)
    generator_loss(inputs[0], inputs[1], inputs[2], alpha, inputs[3]).backward()
    rng = np.random.default_rng(2)
    for which, tensor in enumerate(inputs):
        assert tensor.grad is not None
        for _ in range(10):
            index = tuple(rng.integers(n) for n in SHAPE)
            step = 1e-6
            up, down = [v.copy() for v in values], [v.copy() for v in values]
            up[which][index] += step
            down[which][index] -= step
            slope = (by_hand(*up) - by_hand(*down)) / (2 * step)
            assert tensor.grad[index].item() == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_omega_is_bounded_below_and_carries_no_gradient() -> None:
    x_g = torch.zeros(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    y_real = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    y_fake = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    loss = generator_loss(x_g, y_real, y_fake)
    # (0 - 1)(1 - 0) / 1e-5; its derivative in x_g, ω held, is (0 - 1)(-1) / 1e-5.
    assert loss.item() == pytest.approx(-1e5)
    loss.backward()
    assert x_g.grad is not None
    assert x_g.grad.item() == pytest.approx(1e5)


def test_masked_samples_leave_the_sum_and_the_divisor_stays() -> None:
    x_g, y_real, y_fake = arrays(3)
    y_fake[2] = np.nan
    mask = torch.tensor([True, True, False, True])
    keep = [0, 1, 3]
    loss = generator_loss(*tensors(x_g, y_real, y_fake), mask=mask, divisor=4)
    alone = generator_loss(*tensors(x_g[keep], y_real[keep], y_fake[keep]), divisor=4)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-14)
    assert alone.item() == pytest.approx(generator_loss(*tensors(x_g[keep], y_real[keep], y_fake[keep])).item() * 3 / 4)

    weight = torch.ones(4, dtype=torch.float64)
    masked = fake_score_loss(*tensors(y_fake, y_real), weight, mask, 4)
    assert masked.item() == pytest.approx(((y_fake[keep] - y_real[keep]) ** 2).sum() / 4, rel=1e-14)


def test_a_sample_is_finite_where_all_tensors_are() -> None:
    a, b = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    a[0, 1, 1] = torch.nan
    b[2, 0, 0] = torch.inf
    assert finite_samples(a, b).tolist() == [False, True, False]
