"""The gate's rules of each recipe."""

from __future__ import annotations

import pytest

from sidlsg.distil.recipes import RECIPES
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate_rules import GATES, gate_rules


def test_a_recipe_without_a_gate_is_refused() -> None:
    assert gate_rules("tiny") is GATES["tiny"]
    with pytest.raises(InputError, match="recipe 'sd21' has no gate"):
        gate_rules("sd21")
    with pytest.raises(InputError, match="recipe 'sd16' is unknown"):
        gate_rules("sd16")


def test_a_recipe_with_published_results_asks_for_scores_near_them() -> None:
    families = {
        "sdxl_4step",
        "sdxl_lora",
        "sd3_medium_4step",
        "sd35_medium_4step",
        "sd35_large_4step",
        "sd35_large_lora",
        "sana_600m_4step",
        "sana_1600m_4step",
        "flux_dev_4step",
        "flux_dev_lora",
    }
    assert RECIPES.keys() - GATES.keys() == {"sd21", "sd15_lora", "sd15_4step", *families}
    assert gate_rules("tiny_lora") == gate_rules("tiny")
    assert (RECIPES["tiny"].published, RECIPES["sd21"].published) == ((), ())
    gate = gate_rules("sd15")
    assert [(floor.score, floor.limit) for floor in gate.floors] == [("fid", 10.19), ("clip", 0.294)]  # of 8.15, 0.304
    assert [rule.score for rule in gate.not_worse] == ["fid", "clip"]


def test_scenes_ask_for_whole_captions_and_shapes_for_attributes() -> None:
    asked = {name: {rule.score for rule in gate_rules(name).ratios} for name in ("scenes", "tiny")}
    assert asked == {"scenes": {"fid_judge", "all_attributes"}, "tiny": {"fid_judge", "attributes"}}
