"""The metrics against plain counting, and shards merged by torchmetrics' own code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchmetrics import Metric

from sidlsg.errors import InputError
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.metrics import AttributeAccuracy, FeatureMemory, FrechetDistance
from sidlsg.shapes.captions import ATTRIBUTES, Caption

CAPTIONS = (
    Caption("small", "red", "circle", "blue"),
    Caption("large", "green", "ring", "white"),
    Caption("large", "black", "cross", "yellow"),
    Caption("small", "white", "square", "purple"),
)


def channel_means(pixels: torch.Tensor) -> torch.Tensor:
    """[N, 3] features that anyone can compute."""
    return pixels.double().mean((2, 3))


def random_pixels(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class ToldJudge(nn.Module):
    """Reads the labels that the first four pixels of an image spell."""

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        told = pixels[:, 0, 0, :4].long()
        return {
            name: nn.functional.one_hot(told[:, i], len(values)).float()
            for i, (name, values) in enumerate(ATTRIBUTES.items())
        }


def spelled(*labels: tuple[int, ...]) -> torch.Tensor:
    pixels = torch.zeros(len(labels), 3, 8, 8)
    pixels[:, 0, 0, :4] = torch.tensor(labels, dtype=torch.float32)
    return pixels


def other(labels: tuple[int, ...], *wrong: int) -> tuple[int, ...]:
    """The labels with some of them wrong."""
    return tuple((label + 1) % 2 if i in wrong else label for i, label in enumerate(labels))


@pytest.fixture
def reference() -> FeatureStatistics:
    return FeatureStatistics(3).update(channel_means(random_pixels(50, 9)))


@pytest.fixture
def distance(reference: FeatureStatistics) -> Callable[[], FrechetDistance]:
    return lambda: FrechetDistance(reference)


@pytest.fixture
def accuracy() -> Callable[[], AttributeAccuracy]:
    return lambda: AttributeAccuracy(ToldJudge())  # type: ignore[arg-type]


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


def test_accuracy_by_hand(accuracy: Callable[[], AttributeAccuracy]) -> None:
    labels = [caption.labels for caption in CAPTIONS]
    metric = accuracy()
    # The first right, the second with a wrong size, the third with a wrong size and background.
    metric.update(spelled(labels[0], other(labels[1], 0)), CAPTIONS[:2])
    metric.update(spelled(other(labels[2], 0, 3), labels[3]), CAPTIONS[2:])
    assert metric.compute() == {
        "size": 2 / 4,
        "colour": 4 / 4,
        "shape": 4 / 4,
        "background": 3 / 4,
        "attributes": 13 / 16,
        "all_attributes": 2 / 4,
    }


def test_accuracys_intervals(accuracy: Callable[[], AttributeAccuracy]) -> None:
    metric = accuracy()
    labels = CAPTIONS[0].labels
    given = [labels] * 60 + [other(labels, 0)] * 30 + [other(labels, 0, 1)] * 10
    metric.update(spelled(*given), [CAPTIONS[0]] * 100)
    around = metric.intervals()
    rights = torch.tensor([1.0] * 60 + [0.75] * 30 + [0.5] * 10)
    half = 1.959964 * float(rights.std()) / 10
    assert around["attributes"] == pytest.approx((float(rights.mean()) - half, float(rights.mean()) + half))
    assert around["all_attributes"] == pytest.approx((0.5020, 0.6906), abs=1e-4)  # Wilson's, of 60 in 100
    perfect = accuracy()
    perfect.update(spelled(labels, labels), [CAPTIONS[0]] * 2)
    assert perfect.intervals()["attributes"] == (1.0, 1.0)
    assert perfect.intervals()["all_attributes"][0] < 0.5


def test_features_of_no_image_are_refused() -> None:
    with pytest.raises(InputError, match="no features of any image"), pytest.warns(UserWarning, match="before"):
        FeatureMemory().compute()


def test_two_shards_of_images_merge_to_one_pass(
    distance: Callable[[], FrechetDistance], accuracy: Callable[[], AttributeAccuracy]
) -> None:
    pixels = random_pixels(30, 2)
    labels = [caption.labels for caption in CAPTIONS]
    told = spelled(labels[0], other(labels[1], 1), other(labels[2], 2), labels[3])

    def merged(make: Callable[[], Metric], *updates: tuple[object, ...]) -> object:
        first, *rest = [make() for _ in updates]
        for metric, arguments in zip([first, *rest], updates, strict=True):
            metric.update(*arguments)
        for metric in rest:
            first.merge_state(metric)
        return first.compute()

    features = channel_means(pixels)
    whole = merged(distance, (features,))
    assert merged(distance, (features[:11],), (features[11:],)) == pytest.approx(whole, rel=1e-9)
    remembered = merged(FeatureMemory, (features[:11],), (features[11:],))
    # In which order is the library's affair.
    assert torch.equal(remembered.sort(0).values, features.sort(0).values)  # type: ignore[attr-defined]
    judged = merged(accuracy, (told, CAPTIONS))
    assert merged(accuracy, (told[:1], CAPTIONS[:1]), (told[1:], CAPTIONS[1:])) == judged


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


def test_accuracy_needs_one_caption_an_image(accuracy: Callable[[], AttributeAccuracy]) -> None:
    metric = accuracy()
    labels = CAPTIONS[0].labels
    with pytest.raises(InputError, match="2 images and 1 captions"):
        metric.update(spelled(labels, labels), CAPTIONS[:1])
    with pytest.raises(InputError, match="no image at all"):
        metric.compute()
