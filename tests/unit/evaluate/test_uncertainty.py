"""Intervals against known distributions."""

from __future__ import annotations

import pytest
import torch

from sidlsg.errors import InputError
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.uncertainty import bootstrap_deviation, interval, share_interval


def test_a_means_deviation_is_the_standard_error() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = bootstrap_deviation(400, lambda chosen: float(values[chosen].mean()), "test", resamples=1000)
    assert found == pytest.approx(float(values.std()) / 20, rel=0.1)
    again = bootstrap_deviation(400, lambda chosen: float(values[chosen].mean()), "test", resamples=1000)
    assert found == again


def test_a_frechet_distances_interval_holds_what_other_images_give() -> None:
    """Of 40 sets from one source, most lie in the interval of one of them; it is not wider than they spread."""

    def draw(seed: int, count: int = 600) -> torch.Tensor:
        return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def distance(features: torch.Tensor) -> float:
        return frechet_distance(FeatureStatistics(8).update(features), reference)

    reference = FeatureStatistics(8).update(draw(1000, 5000))
    first = 0.3 + 1.1 * draw(0)
    others = torch.tensor([distance(0.3 + 1.1 * draw(seed)) for seed in range(1, 61)])
    deviation = bootstrap_deviation(600, lambda chosen: distance(first[chosen]), "test")
    assert deviation == pytest.approx(float(others.std()), rel=0.4)
    low, high = interval(float(others.mean()), deviation)
    assert ((low < others) & (others < high)).double().mean() > 0.85


@pytest.mark.parametrize(
    ("successes", "count", "expected"),
    # Wilson's interval as tables give it.
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (5, 10, (0.2366, 0.7634)), (81, 263, (0.2553, 0.3662))],
)
def test_shares(successes: int, count: int, expected: tuple[float, float]) -> None:
    assert share_interval(successes, count) == pytest.approx(expected, abs=1e-4)


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="200 resamples of 1 images"):
        bootstrap_deviation(1, lambda _: 0.0, "test")
    with pytest.raises(InputError, match="3 of 2 is no share"):
        share_interval(3, 2)
