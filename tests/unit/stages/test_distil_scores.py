"""Scores during training."""

from __future__ import annotations

import pytest

from sidlsg.stages.distil_scores import evaluation_prompts


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, "a"), (2, "ac"), (3, "abd"), (5, "abcde"), (7, "abcdeab"), (11, "abcdeabcdea")]
)
def test_prompts_are_spread_over_a_longer_list_and_repeat_a_shorter_one(count: int, chosen: str) -> None:
    assert "".join(evaluation_prompts("abcde", count)) == chosen
