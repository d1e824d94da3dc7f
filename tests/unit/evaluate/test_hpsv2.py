"""HPSv2's grouping on made-up score tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sidlsg.evaluate.published import STYLES, preference_table
from sidlsg.runtime.errors import InputError


def table(count: int = 800) -> dict[str, list[float]]:
    draws = np.random.default_rng(0)
    return {style: (25 + i + draws.standard_normal(count)).tolist() for i, style in enumerate(STYLES)}


def test_groups_are_of_consecutive_prompts() -> None:
    # In groups of two: means 0, 1, …, 9 with ±5 within, which the deviation must not see.
    values = [mean + half for mean in range(10) for half in (-5.0, 5.0)]
    found = preference_table(dict.fromkeys(STYLES, values), images_a_style=20)
    for style in STYLES:
        assert found.styles[style].mean == pytest.approx(4.5)
        assert found.styles[style].deviation == pytest.approx(math.sqrt(8.25))  # of 0..9, ddof = 0
    assert found.average == pytest.approx(4.5)


def test_it_is_numpys_numbers() -> None:
    scores = table()
    found = preference_table(scores)
    for style in STYLES:
        values = np.array(scores[style])
        assert found.styles[style].mean == pytest.approx(values.mean(), rel=1e-12)
        assert found.styles[style].deviation == pytest.approx(values.reshape(10, 80).mean(1).std(), rel=1e-12)
    assert found.average == pytest.approx(np.mean([scores[style] for style in STYLES]), rel=1e-12)


def test_another_table_is_refused() -> None:
    with pytest.raises(InputError, match="799 scores of photo given; there must be 800"):
        preference_table(table() | {"photo": [1.0] * 799})
    with pytest.raises(InputError, match=r"styles anime given; HPSv2 has anime, concept-art, paintings, photo"):
        preference_table({"anime": [1.0] * 800})
    with pytest.raises(InputError, match="the score of anime image 3 is nan"):
        preference_table(table() | {"anime": [1.0] * 3 + [math.nan] + [1.0] * 796})
    with pytest.raises(InputError, match="15 images a style do not make 10 groups"):
        preference_table(table(15), images_a_style=15)
