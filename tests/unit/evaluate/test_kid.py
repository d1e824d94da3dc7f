"""The kernel distance against sums over pairs, one pair at a time, and against torchmetrics."""

from __future__ import annotations

import itertools

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from sidlsg.evaluate.kid import SUBSET_SIZE, kernel_distance, squared_mmd
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.runtime.errors import InputError


def features(seed: int, count: int, dim: int = 6, shift: float = 0.0) -> torch.Tensor:
    return shift + torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_pairs(x: torch.Tensor, y: torch.Tensor) -> float:
    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def mean(pairs: list[float]) -> float:
        return sum(pairs) / len(pairs)

    among = [mean([kernel(a, b) for a, b in itertools.permutations(each, 2)]) for each in (x, y)]
    return sum(among) - 2 * mean([kernel(a, b) for a, b in itertools.product(x, y)])


@pytest.mark.parametrize(("n", "m", "shift"), [(2, 2, 0.0), (7, 5, 0.3), (12, 20, -1.0)])
def test_it_is_the_sum_over_pairs(n: int, m: int, shift: float) -> None:
    x, y = features(0, n), features(1, m, shift=shift)
    assert squared_mmd(x, y) == pytest.approx(by_pairs(x, y), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("dim", [6, 64])
def test_it_is_torchmetrics_number(dim: int) -> None:
    x, y = features(0, 200, dim), features(1, 200, dim, shift=0.5)
    kernels = [(a @ b.T / dim + 1) ** 3 for a, b in ((x, x), (x, y), (y, y))]
    ours = squared_mmd(x, y)
    from torchmetrics.image.kid import maximum_mean_discrepancy

    assert ours == pytest.approx(float(maximum_mean_discrepancy(*kernels)), rel=1e-6)
    assert ours == pytest.approx(float(poly_mmd(x, y)), rel=1e-6)


def test_it_is_unbiased_between_sets_of_one_source() -> None:
    values = [squared_mmd(features(2 * i, 50), features(2 * i + 1, 50)) for i in range(200)]
    error = torch.tensor(values).std() / len(values) ** 0.5
    assert abs(sum(values) / len(values)) < 3 * float(error)
    assert min(values) < 0 < max(values)


def test_the_distance_is_the_mean_over_subsets_and_the_seed_chooses_them() -> None:
    x, y = features(0, 60), features(1, 50, shift=0.5)
    found = kernel_distance(x, y, seed=3, subsets=40, size=30)
    assert found == kernel_distance(x, y, seed=3, subsets=40, size=30)
    assert found != kernel_distance(x, y, seed=4, subsets=40, size=30)
    assert found.std > 0
    assert found.mean == pytest.approx(squared_mmd(x, y), abs=4 * found.std / 40**0.5)
    # Whole sets, in whatever order.
    whole = kernel_distance(x[:50], y, seed=3, subsets=2, size=50)
    assert whole.mean == pytest.approx(squared_mmd(x[:50], y), rel=1e-10)
    assert whole.std == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match=r"subsets of 30 images need more than 29 generated and 50"):
        kernel_distance(features(0, 29), features(1, 50), seed=0, size=30)
    with pytest.raises(InputError, match=r"shapes \[4, 6\] and \[4, 5\]"):
        squared_mmd(features(0, 4), features(0, 4, 5))
    with pytest.raises(InputError, match=r"there are 1 and 4"):
        squared_mmd(features(0, 1), features(0, 4))


def test_its_protocol_takes_no_fewer_images_than_a_subset_has() -> None:
    assert PROTOCOLS["kid/inception-poly3"].least == SUBSET_SIZE
