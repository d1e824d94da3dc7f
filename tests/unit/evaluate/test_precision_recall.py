"""Precision and recall against the definition, one image at a time, and by hand."""

from __future__ import annotations

import pytest
import torch

from sidlsg.evaluate import precision_recall as module
from sidlsg.evaluate.precision_recall import PrecisionRecall, precision_recall
from sidlsg.runtime.errors import InputError


def features(seed: int, count: int, dim: int = 3, shift: float = 0.0) -> torch.Tensor:
    return shift + torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def share_inside(points: torch.Tensor, centres: torch.Tensor, k: int) -> float:
    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.double() - b.double()).square().sum().sqrt())

    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            others = sorted(distance(centre, other) for j, other in enumerate(centres) if j != i)
            if distance(point, centre) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "shift"), [(40, 30, 0.0), (30, 40, 1.0), (25, 25, 3.0)])
def test_it_is_the_definition(k: int, n: int, m: int, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    generated, reference = features(0, n), features(1, m, shift=shift)
    assert precision_recall(generated, reference, k) == PrecisionRecall(
        precision=pytest.approx(share_inside(generated, reference, k)),  # type: ignore[arg-type]
        recall=pytest.approx(share_inside(reference, generated, k)),  # type: ignore[arg-type]
    )


def test_by_hand() -> None:
    # On a line: reference balls of k = 1 have radii 1, 1, 1, 7 around 0, 1, 2, 9; they cover [-1, 3] and [2, 16].
    reference = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    generated = torch.tensor([[-1.5], [-1.0], [16.0], [16.5]])
    # The generated balls' radii are 0.5: they reach -2 to -0.5, and 15.5 to 17.
    assert precision_recall(generated, reference, 1) == PrecisionRecall(precision=0.5, recall=0.0)


def test_copies_of_the_reference_are_precise_and_cover_what_they_copy() -> None:
    reference = features(0, 50)
    assert precision_recall(reference, reference) == PrecisionRecall(precision=1.0, recall=1.0)
    copies = reference[:1].expand(50, -1)
    found = precision_recall(copies, reference)
    assert (found.precision, found.recall) == (1.0, 1 / 50)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match=r"shapes \[4, 3\] and \[4, 2\]"):
        precision_recall(features(0, 4), features(0, 4, 2))
    with pytest.raises(InputError, match=r"more than 3 images a set; there are 3 generated and 9"):
        precision_recall(features(0, 3), features(0, 9))
    with pytest.raises(InputError, match="0 neighbours asked for"):
        precision_recall(features(0, 9), features(0, 9), 0)
