"""Attribute accuracy against plain counting."""

from __future__ import annotations

import pytest
import torch

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.measures import accuracies, accuracy_intervals
from sidlsg.runtime.errors import InputError


def answers(*rights: str) -> torch.Tensor:
    """[N, 4]: whether each attribute was read right, as rows of + and -."""
    return torch.tensor([[sign == "+" for sign in row] for row in rights])


def test_accuracy_by_hand() -> None:
    # The first right, the second with a wrong size, the third with a wrong size and background.
    assert accuracies(answers("++++", "-+++", "-++-", "++++"), SHAPES) == {
        "size": 2 / 4,
        "colour": 4 / 4,
        "shape": 4 / 4,
        "background": 3 / 4,
        "attributes": 13 / 16,
        "all_attributes": 2 / 4,
    }


def test_intervals_of_accuracy() -> None:
    around = accuracy_intervals(answers(*["++++"] * 60, *["-+++"] * 30, *["--++"] * 10), SHAPES)
    rights = torch.tensor([1.0] * 60 + [0.75] * 30 + [0.5] * 10)
    half = 1.959964 * float(rights.std()) / 10
    assert around["attributes"] == pytest.approx((float(rights.mean()) - half, float(rights.mean()) + half))
    assert around["all_attributes"] == pytest.approx((0.5020, 0.6906), abs=1e-4)  # Wilson's, of 60 in 100
    perfect = accuracy_intervals(answers("++++", "++++"), SHAPES)
    assert perfect["attributes"] == (1.0, 1.0)
    assert perfect["all_attributes"][0] < 0.5


def test_accuracy_of_no_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"answers of shape \[2, 3\]"):
        accuracies(torch.ones(2, 3), SHAPES)
    with pytest.raises(InputError, match="answers for 0 images"):
        accuracies(torch.ones(0, 4), SHAPES)
    with pytest.raises(InputError, match="answers for 1 images"):
        accuracy_intervals(torch.ones(1, 4), SHAPES)
