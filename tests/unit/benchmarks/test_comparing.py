"""Ways in processes of their own. They import this module, so it imports little."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))  # as for the scripts themselves

from comparing import Way, alternate, ratio


def test_a_ratio_is_of_medians_and_shows_how_rounds_spread() -> None:
    assert ratio([1, 2, 3, 4, 50], [10, 10, 10, 10, 100]) == {
        "of_medians": 0.3,
        "lower_quartile": 0.2,
        "upper_quartile": 0.4,
    }


def appending(path: Path, text: str) -> Callable[[], object]:
    def append() -> None:
        with path.open("a") as file:
            file.write(text)

    return append


def test_every_second_round_goes_backwards(tmp_path: Path) -> None:
    order = tmp_path / "order"
    with Way(appending, order, "a") as first, Way(appending, order, "b") as second:
        times = alternate({"a": first, "b": second}, blocks=2, iterations=2)
    assert order.read_text() == "aabbbbaa"
    assert len(times["a"].wall) == len(times["b"].cpu) == 2


def failing() -> Callable[[], object]:
    raise ValueError("on purpose")


def test_a_way_that_fails_is_noticed() -> None:
    with Way(failing) as way, pytest.raises(RuntimeError, match="ended"):
        way.run(1)
