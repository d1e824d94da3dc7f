"""The metrics against plain counting, and shards merged by torchmetrics' own code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance

from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.metrics import AttributeAccuracy, FeatureMemory, FrechetDistance
from sidlsg.runtime.errors import InputError


def channel_means(pixels: torch.Tensor) -> torch.Tensor:
    """[N, 3] features that anyone can compute."""
    return pixels.double().mean((2, 3))


def random_pixels(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def answers(*rights: str) -> torch.Tensor:
    """[N, 4]: whether each attribute was read right, as rows of + and -."""
    return torch.tensor([[sign == "+" for sign in row] for row in rights])


@pytest.fixture
def reference() -> FeatureStatistics:
    return FeatureStatistics(3).update(channel_means(random_pixels(50, 9)))


@pytest.fixture
def distance(reference: FeatureStatistics) -> Callable[[], FrechetDistance]:
    return lambda: FrechetDistance(reference)


def test_the_metric_is_the_plain_distance(
    distance: Callable[[], FrechetDistance], reference: FeatureStatistics
) -> None:
    pixels = random_pixels(40, 1)
    metric = distance()
    for part in pixels.split(7):
        metric.update(channel_means(part))
    plain = FeatureStatistics(3).update(channel_means(pixels))
    assert metric.compute() == pytest.approx(frechet_distance(plain, reference), rel=1e-9)
    metric.reset()
    with pytest.raises(InputError, match="more than 1 images; there are 0"), pytest.warns(UserWarning, match="before"):
        metric.compute()


def test_accuracy_by_hand() -> None:
    metric = AttributeAccuracy()
    # The first right, the second with a wrong size, the third with a wrong size and background.
    metric.update(answers("++++", "-+++"))
    metric.update(answers("-++-", "++++"))
    assert metric.compute() == {
        "size": 2 / 4,
        "colour": 4 / 4,
        "shape": 4 / 4,
        "background": 3 / 4,
        "attributes": 13 / 16,
        "all_attributes": 2 / 4,
    }


def test_accuracys_intervals() -> None:
    metric = AttributeAccuracy()
    metric.update(answers(*["++++"] * 60, *["-+++"] * 30, *["--++"] * 10))
    around = metric.intervals()
    rights = torch.tensor([1.0] * 60 + [0.75] * 30 + [0.5] * 10)
    half = 1.959964 * float(rights.std()) / 10
    assert around["attributes"] == pytest.approx((float(rights.mean()) - half, float(rights.mean()) + half))
    assert around["all_attributes"] == pytest.approx((0.5020, 0.6906), abs=1e-4)  # Wilson's, of 60 in 100
    perfect = AttributeAccuracy()
    perfect.update(answers("++++", "++++"))
    assert perfect.intervals()["attributes"] == (1.0, 1.0)
    assert perfect.intervals()["all_attributes"][0] < 0.5


def test_features_are_refused_that_are_not_one_an_image() -> None:
    with pytest.raises(InputError, match="no features of any image"), pytest.warns(UserWarning, match="before"):
        FeatureMemory(2).compute()
    memory = FeatureMemory(2)
    with pytest.raises(InputError, match=r"shape \[3, 1\] given for 3 × 2"):
        memory.update(torch.zeros(3, 1), range(3))
    memory.update(torch.zeros(3, 2), range(3))
    memory.update(torch.zeros(3, 2), range(2, 5))
    with pytest.raises(InputError, match="6 images are not of the places from 0 on, each once"):
        memory.compute()


def test_two_shards_of_images_merge_to_one_pass(distance: Callable[[], FrechetDistance]) -> None:
    def merged(make: Callable[[], Metric], *updates: tuple[object, ...]) -> object:
        first, *rest = [make() for _ in updates]
        for metric, arguments in zip([first, *rest], updates, strict=True):
            metric.update(*arguments)
        for metric in rest:
            first.merge_state(metric)
        return first.compute()

    features = channel_means(random_pixels(30, 2))
    whole = merged(distance, (features,))
    assert merged(distance, (features[:11],), (features[11:],)) == pytest.approx(whole, rel=1e-9)
    # In the images' order, whichever shard came first.
    parts = ((features[11:], range(11, 30)), (features[:11], range(11)))
    for order in (parts, parts[::-1]):
        assert torch.equal(merged(lambda: FeatureMemory(3), *order), features)  # type: ignore[arg-type]
    told = answers("++++", "+-++", "++-+", "++++")
    assert merged(AttributeAccuracy, (told[:1],), (told[1:],)) == merged(AttributeAccuracy, (told,))


def test_two_ranks_sync_to_one_pass(distance: Callable[[], FrechetDistance]) -> None:
    features = channel_means(random_pixels(30, 3))
    here, there, whole = distance(), distance(), distance()
    here.update(features[:20])
    there.update(features[20:])
    whole.update(features)
    states = [iter([there.count, there.sum, there.outer])]

    def gather(state: torch.Tensor, group: object = None) -> list[torch.Tensor]:
        del group
        return [state, next(states[0])]

    # What torch.distributed would bring is given by hand; the reduction is torchmetrics'.
    here.sync(dist_sync_fn=gather, distributed_available=lambda: True)
    assert int(here.count) == 30
    here.unsync()
    assert int(here.count) == 20
    states[0] = iter([there.count, there.sum, there.outer])
    here.sync(dist_sync_fn=gather, distributed_available=lambda: True)
    assert frechet_of(here) == pytest.approx(whole.compute(), rel=1e-9)


def frechet_of(metric: FrechetDistance) -> float:
    """The distance of a synced metric, computed here."""
    seen = FeatureStatistics(3)
    seen.count, seen.sum, seen.outer = int(metric.count), metric.sum, metric.outer
    return frechet_distance(seen, metric.reference)


def test_accuracy_of_no_image_is_refused() -> None:
    metric = AttributeAccuracy()
    with pytest.raises(InputError, match=r"answers of shape \[2, 3\]"):
        metric.update(torch.ones(2, 3))
    with pytest.raises(InputError, match="no image at all"):
        metric.compute()


class Flat(nn.Module):
    """Pictures of one pixel with 8 channels' worth of numbers, taken as they are: features handed to torchmetrics."""

    num_features = 8

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)


def test_torchmetrics_own_frechet_distance_agrees(tmp_path: Path) -> None:
    """The library's class, given the same features, by its own root."""
    del tmp_path
    draws = torch.Generator().manual_seed(5)
    mix = torch.randn(8, 8, generator=draws, dtype=torch.float64)
    real = torch.randn(500, 8, generator=draws, dtype=torch.float64) @ mix
    fake = torch.randn(400, 8, generator=draws, dtype=torch.float64) @ mix.T + 0.5
    theirs = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(8, 1, 1)).set_dtype(torch.float64)
    for features, is_real in ((real, True), (fake, False)):
        for part in features.split(64):
            theirs.update(part[:, :, None, None], real=is_real)
    ours = FrechetDistance(FeatureStatistics(8).update(real))
    ours.update(fake)
    assert ours.compute() == pytest.approx(float(theirs.compute()), rel=1e-6)
