"""Feature statistics and the Fréchet distance against numpy, scipy and closed forms."""

from __future__ import annotations

import time
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.runtime.errors import InputError


def features(seed: int, count: int, dim: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Correlated features of a random covariance."""
    draws = np.random.default_rng(seed)
    return shift + scale * draws.standard_normal((count, dim)) @ draws.standard_normal((dim, dim))


def statistics(values: np.ndarray) -> FeatureStatistics:
    return FeatureStatistics(values.shape[1]).update(torch.from_numpy(values))


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    """The formula as published, with scipy's matrix root."""
    s1, s2 = np.atleast_2d(np.cov(a.T), np.cov(b.T))
    root = sqrtm(s1 @ s2)
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(s1 + s2 - 2 * root.real))


@pytest.mark.parametrize("ddof", [0, 1])
def test_mean_and_covariance_are_numpys(ddof: int) -> None:
    values = features(0, 50, 6, shift=3.0)
    found = statistics(values)
    assert found.count == 50
    assert np.allclose(found.mean, values.mean(0), rtol=1e-12)
    assert np.allclose(found.cov(ddof), np.cov(values.T, ddof=ddof), rtol=1e-10)
    assert np.allclose(found.cov(), np.cov(values.T))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), max_size=6))
def test_parts_merge_to_the_whole(seed: int, cuts: list[int]) -> None:
    values = features(seed, 40, 5, shift=1.0)
    parts = np.split(values, sorted(cuts))
    merged = FeatureStatistics(5)
    for part in parts:
        merged.merge(statistics(part))
    whole = statistics(values)
    assert merged.count == whole.count == 40
    assert torch.allclose(merged.sum, whole.sum, rtol=1e-12, atol=1e-12)
    assert torch.allclose(merged.outer, whole.outer, rtol=1e-12, atol=1e-12)
    other = statistics(features(seed + 1, 40, 5))
    assert frechet_distance(merged, other) == pytest.approx(frechet_distance(whole, other), rel=1e-9)


@pytest.mark.parametrize("dim", [1, 2, 16, 64, 512])
def test_the_distance_is_that_of_scipys_matrix_root(dim: int) -> None:
    a, b = features(1, 3 * dim + 200, dim), features(2, 2 * dim + 200, dim, scale=1.5, shift=0.5)
    found = frechet_distance(statistics(a), statistics(b))
    assert found == pytest.approx(by_scipy(a, b), rel=1e-6)
    assert frechet_distance(statistics(b), statistics(a)) == pytest.approx(found, rel=1e-9)


@pytest.mark.long
def test_at_inceptions_width_it_takes_a_quarter_of_scipys_time_at_most() -> None:
    """Both with the threads that they take by themselves, one after the other."""
    a, b = features(1, 5000, 2048), features(2, 5000, 2048, shift=0.5)
    one, two = statistics(a), statistics(b)
    began = time.perf_counter()
    found = frechet_distance(one, two)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    expected = by_scipy(a, b)
    theirs = time.perf_counter() - began
    assert found == pytest.approx(expected, rel=1e-6)
    assert ours < theirs / 4


@pytest.mark.parametrize(("dim", "n", "m"), [(64, 40, 2000), (64, 2000, 40), (512, 100, 300), (64, 64, 65)])
def test_with_fewer_images_than_dimensions_it_is_that_of_the_features_themselves(dim: int, n: int, m: int) -> None:
    """The root's trace is the nuclear norm of the product of both sets' centred features: no covariance at all."""
    a, b = features(1, n, dim), features(2, m, dim, scale=1.5, shift=0.5)
    one, two = ((values - values.mean(0)) / np.sqrt(len(values) - 1) for values in (a, b))
    difference = a.mean(0) - b.mean(0)
    expected = (difference @ difference) + (one**2).sum() + (two**2).sum() - 2 * np.linalg.norm(one @ two.T, "nuc")
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 5]), st.randoms(use_true_random=False))
def test_shards_in_any_order_give_the_whole_ones_distance(shards: int, order: Random) -> None:
    values, reference = features(5, 1000, 32, shift=1.0), statistics(features(6, 1000, 32))
    parts = np.array_split(values, shards)
    order.shuffle(parts)
    merged = FeatureStatistics(32)
    for part in parts:
        merged.merge(statistics(part))
    whole = frechet_distance(statistics(values), reference)
    assert frechet_distance(merged, reference) == pytest.approx(whole, rel=1e-12)


def test_the_distance_of_diagonal_gaussians_has_a_closed_form() -> None:
    # Four points ± σ along each axis in turn: independent axes, of known mean and variance.
    def corners(mean: list[float], sigma: list[float]) -> np.ndarray:
        signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)
        return np.array(mean) + signs * np.array(sigma)

    a, b = corners([0, 0], [1, 3]), corners([2, -1], [2, 0.5])
    # ddof = 1 makes each variance 4/3 σ².
    expected = (2**2 + 1**2) + 4 / 3 * ((1 - 2) ** 2 + (3 - 0.5) ** 2)
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(2, 8))
def test_too_few_images_for_the_width_still_have_a_finite_distance(seed: int, n: int, m: int) -> None:
    a, b = statistics(features(seed, n, 12)), statistics(features(seed + 1, m, 12))
    found = frechet_distance(a, b)
    assert np.isfinite(found)
    assert found >= 0
    # The means alone are a lower bound; eigenvalues of 0 cost some digits.
    assert found >= float((a.mean - b.mean).square().sum()) * (1 - 1e-6)


@pytest.mark.parametrize("count", [4, 300])
def test_a_set_has_no_distance_to_itself(count: int) -> None:
    same = statistics(features(3, count, 12, shift=2.0))
    assert frechet_distance(same, same) <= 1e-6 * float(same.cov().trace())


def test_constant_features_have_only_the_distance_of_their_means() -> None:
    zeros, ones = statistics(np.zeros((5, 3))), statistics(np.ones((5, 3)))
    assert frechet_distance(zeros, ones) == pytest.approx(3.0)


def test_half_precision_features_are_summed_in_double() -> None:
    # 4,096 ones in float16 would stop growing at 2,048.
    found = FeatureStatistics(1).update(torch.ones(4096, 1, dtype=torch.float16))
    assert found.sum.dtype == torch.float64
    assert float(found.mean) == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_features_that_are_not_finite_are_refused_and_nothing_is_added(bad: float) -> None:
    found = statistics(np.ones((3, 2)))
    with pytest.raises(InputError, match="NaN or infinity"):
        found.update(torch.tensor([[1.0, 2.0], [bad, 0.0]]))
    assert found.count == 3
    assert found.sum.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("shape", [(4, 3), (2,), (2, 2, 2)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \[N, 2\]"):
        FeatureStatistics(2).update(torch.zeros(shape))


def test_unlike_widths_neither_merge_nor_compare() -> None:
    narrow, wide = statistics(features(0, 9, 2)), statistics(features(0, 9, 3))
    with pytest.raises(InputError, match="width 3 do not merge into width 2"):
        narrow.merge(wide)
    with pytest.raises(InputError, match="widths 2 and 3"):
        frechet_distance(narrow, wide)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match="no image have no mean"):
        _ = FeatureStatistics(2).mean
    with pytest.raises(InputError, match="more than 1 images; there are 1"):
        statistics(np.zeros((1, 2))).cov()
    with pytest.raises(InputError, match="there are 0"):
        frechet_distance(FeatureStatistics(2), statistics(np.ones((3, 2))))


class Flat(nn.Module):
    """Images of one pixel with 8 channels' worth of numbers, taken as they are: features handed to torchmetrics."""

    num_features = 8

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)


def test_torchmetrics_own_frechet_distance_agrees() -> None:
    draws = torch.Generator().manual_seed(5)
    mix = torch.randn(8, 8, generator=draws, dtype=torch.float64)
    real = torch.randn(500, 8, generator=draws, dtype=torch.float64) @ mix
    fake = torch.randn(400, 8, generator=draws, dtype=torch.float64) @ mix.T + 0.5
    theirs = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(8, 1, 1)).set_dtype(torch.float64)
    for features, is_real in ((real, True), (fake, False)):
        for part in features.split(64):
            theirs.update(part[:, :, None, None], real=is_real)
    ours = frechet_distance(FeatureStatistics(8).update(fake), FeatureStatistics(8).update(real))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-6)
