"""Intervals against known distributions."""

from __future__ import annotations

import statistics

import pytest
import torch

from sidlsg.evaluate.distances import (
    NORMAL_95,
    frechet_interval,
    jackknife_deviation,
    kernel_distance_with_interval,
    random_groups,
    share_interval,
)
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.runtime.errors import InputError


def test_a_means_deviation_is_the_standard_error() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = [float((values.sum() - value) / 399) for value in values]
    assert jackknife_deviation(each) == pytest.approx(float(values.std()) / 20, rel=1e-9)


def test_groups_hold_each_image_once() -> None:
    groups = random_groups(103, 10)
    assert sorted(torch.cat(groups).tolist()) == list(range(103))
    assert {len(group) for group in groups} == {10, 11}
    assert [group.tolist() for group in random_groups(103, 10)] == [group.tolist() for group in groups]
    assert groups[0].tolist() != sorted(groups[0].tolist())


def test_a_frechet_distances_interval_holds_what_other_images_give() -> None:
    """It is about as wide as the distances of 60 sets from one source spread."""

    def draw(seed: int, count: int = 600) -> torch.Tensor:
        return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    reference = FeatureStatistics(8).update(draw(1000, 5000)).gaussian()
    sets = [0.3 + 1.1 * draw(seed) for seed in range(60)]
    distances = [frechet_distance(FeatureStatistics(8).update(each), reference) for each in sets]
    widths = [high - low for low, high in (frechet_interval(each, reference) for each in sets[:10])]
    assert sum(widths) / 10 == pytest.approx(2 * NORMAL_95 * statistics.stdev(distances), rel=0.3)
    low, high = frechet_interval(sets[0], reference)
    assert (low + high) / 2 == pytest.approx(distances[0], rel=1e-9)


def test_a_kernel_distances_interval_is_as_wide_as_other_images_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidlsg.evaluate.distances.SUBSET_SIZE", 100)
    draws = torch.Generator().manual_seed(3)
    reference = torch.randn(300, 8, generator=draws)
    found = [kernel_distance_with_interval(torch.randn(200, 8, generator=draws) + 0.3, reference) for _ in range(60)]
    spread = float(torch.tensor([value for value, _ in found]).std())
    expected = sum((high - low) / (2 * NORMAL_95) for _, (low, high) in found) / len(found)
    # The subsets leave half of the images out, which the value pays for a little and the interval does not.
    assert 0.7 < expected / spread < 1.3


@pytest.mark.parametrize(
    ("successes", "count", "expected"),
    # Wilson's interval as tables give it.
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (5, 10, (0.2366, 0.7634)), (81, 263, (0.2553, 0.3662))],
)
def test_shares(successes: int, count: int, expected: tuple[float, float]) -> None:
    assert share_interval(successes, count) == pytest.approx(expected, abs=1e-4)


def test_a_file_without_information_is_refused() -> None:
    assert len(random_groups(7)) == 3
    with pytest.raises(InputError, match="3 images do not make two groups"):
        random_groups(3)
    with pytest.raises(InputError, match="3 of 2 is not a share"):
        share_interval(3, 2)
