"""A recipe's digest, its checks, and how it is found and changed by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest

from sidlsg.distil.recipes import RECIPES, Recipe, get_recipe, recipe_with_changes
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Published


def test_a_recipe_is_found_by_name() -> None:
    assert get_recipe("tiny") is RECIPES["tiny"]


@pytest.mark.parametrize(
    ("name", "near"), [("tinny", "tiny"), ("sd15-kappa2", "sd15_kappa2"), ("SD21_base_kappa2", "sd21_base_kappa2")]
)
def test_an_unknown_recipe_suggests_the_nearest_and_lists_all(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        get_recipe(name)
    message = str(caught.value)
    assert f"recipe {name!r} is unknown (did you mean {near!r}?)" in message
    assert all(known in message for known in RECIPES)
    assert "\n" not in message


def test_values_are_replaced_by_json() -> None:
    changed = recipe_with_changes("tiny", '{"iterations": 7, "strategy": "long", "scales": {"kappa4": 3}}')
    assert (changed.iterations, changed.guidance.scales) == (7, (1, 1, 1, 3))
    tiny = RECIPES["tiny"]
    back = dataclasses.replace(changed, iterations=tiny.iterations, strategy=tiny.strategy, scales=tiny.scales)
    assert back == tiny


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iteration": 3}, r"no value 'iteration' \(did you mean 'iterations'\?\)"),
        ({"name": "mine"}, "no value 'name'"),
        ({"gate": None}, "no value 'gate'"),
        ({"published": []}, "no value 'published'"),
        ({"iterations": 0}, "iterations is 0; it must be 1 or more"),
        ({"batch": -1}, "batch is -1; it must be 1 or more"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"iterations": "many"}, "iterations is 'many'; it must be of kind int"),
        ({"lr": 0}, "lr is 0.0; it must be a finite number above 0"),
        ({"lr": math.nan}, "lr is nan; it must be a finite number above 0"),
        ({"fake_score_lr": math.inf}, "fake_score_lr is inf; it must be a finite number above 0"),
        ({"adam_eps": -1e-8}, "adam_eps is -1e-08"),
        ({"ema_half_life": 0}, "ema_half_life is 0"),
        ({"alpha": math.nan}, "alpha is nan; it must be a finite number"),
        ({"warmup": -1}, "warmup is -1; it must be 0 or more"),
        ({"grids": -1}, "grids is -1; it must be 0 or more"),
        ({"lr_floor": 1.5}, "lr_floor is 1.5; allowed: 0 to 1"),
        ({"prompt_dropout": 1.0}, "prompt_dropout is 1.0; allowed: 0 up to, not including, 1"),
        ({"prompt_dropout": -0.1}, "prompt_dropout is -0.1"),
        ({"lr_schedule": "linear"}, "lr_schedule is 'linear'; allowed: constant, cosine"),
        ({"export_dtype": "bfloat16"}, "export_dtype is 'bfloat16'; allowed: float16, float32"),
        ({"scales": {"kappa": "abc"}}, "kappa1 is 'abc'; a guidance scale is a finite number"),
        ({"scales": {"kappa": math.nan}}, "kappa1 is nan; a guidance scale is a finite number"),
        ({"scales": {"kappa4": 2}}, "strategy 'lsg' has no scale 'kappa4'; it takes: kappa"),
        ({"scales": {}}, "strategy 'lsg' needs kappa"),
        ({"strategy": "lgs"}, r"'lgs' is unknown \(did you mean 'lsg'\?\)"),
    ],
)
def test_what_cannot_be_used_is_refused_with_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        recipe_with_changes("tiny", json.dumps(changes))
    assert "\n" not in str(caught.value)


def test_the_digest_is_over_the_values_as_json() -> None:
    recipe = RECIPES["sd15"]
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(Recipe)}
    del values["published"]
    assert recipe.values() == values
    assert recipe.digest == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def test_published_results_do_not_change_the_digest() -> None:
    recipe = RECIPES["tiny"]
    other = dataclasses.replace(
        recipe,
        published=(Published(source="someone", images_seen=1e6, fid=9.0, clip=0.3),),
    )
    assert other.digest == recipe.digest


@pytest.mark.parametrize(
    "changes", [{"iterations": 201}, {"scales": {"kappa": 1.6}}, {"micro_batch": 32}, {"lr": 2e-4}, {"grids": 1}]
)
def test_every_other_value_changes_the_digest(changes: dict[str, Any]) -> None:
    assert recipe_with_changes("tiny", json.dumps(changes)).digest != RECIPES["tiny"].digest


def test_whole_numbers_and_floats_are_one_value() -> None:
    """`--set alpha=1` goes on from checkpoints of alpha 1.0, and a float may replace a default of 1000."""
    recipe = recipe_with_changes("tiny", "{}")
    same = recipe_with_changes("tiny", json.dumps({"alpha": int(recipe.alpha)}))
    assert same.identity == recipe.identity
    assert recipe_with_changes("tiny", '{"ema_half_life": 1500.5}').ema_half_life == 1500.5
    kappa2 = recipe_with_changes("sd15_kappa2", "{}")
    assert recipe_with_changes("sd15_kappa2", '{"scales": {"kappa": 2.0}}').identity == kappa2.identity
