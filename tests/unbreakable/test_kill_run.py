"""A few kills and requests to end; tests/long/kill_run.py does many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from long.kill_run import kill_runs


def test_killed_and_ended_runs_continue_to_the_same_bits(tmp_path: Path) -> None:
    lines = kill_runs(tmp_path, kills=2, terms=1, seed=1)
    assert sum(line.startswith("kill ") for line in lines) == 2
    assert sum(line.startswith("term ") for line in lines) >= 1
    assert any("and a half" in line for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["tiny_4step", "tiny_real", "tiny_lora", "tiny_flow"])
def test_killed_runs_of_other_recipes_continue_to_the_same_bits(
    recipe: str, tmp_path: Path, of_family: Callable[[str], Path]
) -> None:
    teacher = of_family("sd3" if recipe == "tiny_flow" else "sd")
    lines = kill_runs(tmp_path, kills=4, terms=1, seed=2, recipe=recipe, teacher=teacher)
    assert sum(line.startswith("kill ") for line in lines) == 4
    assert sum(line.startswith("term ") for line in lines) >= 1
