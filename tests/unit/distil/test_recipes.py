"""A recipe's digest, its checks, and how it is found and changed by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest

from sidlsg.distil.recipes import ADDED, RECIPES, Recipe, get_recipe, recipe_with_changes
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Published
from sidlsg.teacher.architectures import architecture_of


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
    left_out = {"published", *ADDED}  # the latter at their defaults alone
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(Recipe) if f.name not in left_out}
    assert recipe.values() == values
    assert recipe.digest == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def test_published_results_do_not_change_the_digest() -> None:
    recipe = RECIPES["tiny"]
    published = (Published(source="someone", images_seen=1e6, fid=9.0, clip=0.3),)
    assert dataclasses.replace(recipe, published=published).digest == recipe.digest


@pytest.mark.parametrize(
    "changes", [{"iterations": 201}, {"scales": {"kappa": 1.6}}, {"micro_batch": 32}, {"lr": 2e-4}, {"grids": 1}]
)
def test_every_other_value_changes_the_digest(changes: dict[str, Any]) -> None:
    assert recipe_with_changes("tiny", json.dumps(changes)).digest != RECIPES["tiny"].digest


def test_whole_numbers_and_floats_are_one_value() -> None:
    """`--set alpha=1` resumes checkpoints of alpha 1.0, and a float may replace a default of 1000."""
    recipe = recipe_with_changes("tiny", "{}")
    same = recipe_with_changes("tiny", json.dumps({"alpha": int(recipe.alpha)}))
    assert same.identity == recipe.identity
    assert recipe_with_changes("tiny", '{"ema_half_life": 1500.5}').ema_half_life == 1500.5
    kappa2 = recipe_with_changes("sd15_kappa2", "{}")
    assert recipe_with_changes("sd15_kappa2", '{"scales": {"kappa": 2.0}}').identity == kappa2.identity


# arXiv 2406.01561, table 1: κ, images seen, FID and CLIP on 30,000 prompts of COCO-2014.
PUBLISHED = {
    "sd15": [(8.8e6, 8.71, 0.302), (18.8e6, 8.15, 0.304)],
    "sd15_kappa2": [(4.8e6, 9.56, 0.313)],
    "sd15_kappa3": [(6.3e6, 13.21, 0.314)],
    "sd15_kappa4_5": [(8.4e6, 16.59, 0.317)],
    "sd21_base": [(9.7e6, 9.52, 0.308)],
    "sd21_base_kappa2": [(8.5e6, 10.97, 0.318)],
    "sd21_base_kappa3": [(6.1e6, 13.50, 0.321)],
    "sd21_base_kappa4_5": [(7.2e6, 16.54, 0.322)],
}
KAPPAS = {"": 1.5, "2": 2, "3": 3, "4_5": 4.5}


def test_every_recipe_is_found_under_its_own_name() -> None:
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    assert set(RECIPES) == {
        *("tiny", "tiny_lora", "tiny_4step", "tiny_real", "tiny_flow", "sd15_lora", "sd15_4step", "sd15_real", "sd21"),
        "scenes",
        *("sdxl_4step", "sdxl_lora", "sd3_medium_4step", "sd35_medium_4step", "sd35_large_4step", "sd35_large_lora"),
        *("sana_600m_4step", "sana_1600m_4step", "flux_dev_4step", "flux_dev_lora"),
        *PUBLISHED,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_papers_recipe_has_its_values_and_results(name: str) -> None:
    recipe = RECIPES[name]
    kappa = KAPPAS[name.partition("_kappa")[2]]
    assert recipe.strategy == "lsg"
    assert architecture_of(name).name == ("sd15" if name.startswith("sd15") else "sd21_base")
    assert recipe.guidance.scales == (kappa,) * 4
    assert (recipe.alpha, recipe.t_init, recipe.batch) == (1.0, 625, 512)
    assert (recipe.lr, recipe.fake_score_lr, recipe.ema_half_life) == (1e-6, 1e-6, 50_000)
    rows = [(row.images_seen, row.fid, row.clip) for row in recipe.published]
    assert rows == [pytest.approx(row) for row in PUBLISHED[name]]
    # It runs for as many images as the last row saw, to a batch.
    assert abs(recipe.iterations * recipe.batch - PUBLISHED[name][-1][0]) <= recipe.batch / 2
    for row in recipe.published:
        assert "2406.01561" in row.source
        assert row.protocol == "fid/coco2014-30k-clean"


def test_large_recipes_use_the_machine_alike() -> None:
    """For one GPU of 80 GB; `sidlsg estimate` says what others need."""
    for name in (*PUBLISHED, "sd21"):
        recipe = RECIPES[name]
        assert (recipe.precision, recipe.text_states, recipe.on_alarm) == ("bf16", "float16", "stop")
        assert recipe.batch % recipe.micro_batch == 0


def test_the_768_pixel_recipe_is_the_papers_without_a_result() -> None:
    recipe = RECIPES["sd21"]
    assert architecture_of("sd21").prediction_type == "v_prediction"
    assert recipe.published == RECIPES["tiny"].published == ()
    assert (recipe.guidance.scales, recipe.batch, recipe.lr) == ((1.5,) * 4, 512, 1e-6)


def test_the_recipes_of_four_steps_differ_from_their_namesakes_in_the_steps() -> None:
    for name in ("tiny", "sd15"):
        recipe = RECIPES[f"{name}_4step"]
        assert (recipe.steps, recipe.step_noise, recipe.published) == (4, "ddim", ())
        changed = {"name": name, "steps": 1, "step_noise": "fresh"} | (
            {"iterations": RECIPES[name].iterations, "published": RECIPES[name].published}
        )
        assert dataclasses.replace(recipe, **changed) == RECIPES[name]


def test_the_recipes_of_adapters_differ_from_their_namesakes_in_little() -> None:
    """Nothing is published for them; rank, alpha, layers and learning rate of `sd15_lora` are DMD2's."""
    tiny, sd15 = RECIPES["tiny_lora"], RECIPES["sd15_lora"]
    for recipe, like, other in (
        (tiny, "tiny", {"adapter", "lr", "fake_score_lr"}),
        (sd15, "sd15", {"adapter", "lr", "fake_score_lr", "iterations", "activation_checkpointing"}),
    ):
        ours, theirs = recipe.values(), RECIPES[like].values()
        assert {name for name in ours if ours[name] != theirs.get(name)} == {"name", *other}
        assert recipe.published == ()
    assert sd15.lora is not None
    assert (sd15.lora.rank, sd15.lora.alpha, len(sd15.lora.targets)) == (64, 8, 14)
    assert (sd15.lr, sd15.fake_score_lr, sd15.micro_batch) == (5e-5, 5e-5, 8)


def test_the_tiny_recipe_computes_in_float32_with_everything_on_the_device() -> None:
    recipe = RECIPES["tiny"]
    assert (recipe.batch, recipe.micro_batch, recipe.iterations) == (64, 64, 260)
    assert (recipe.precision, recipe.text_states, recipe.activation_checkpointing) == ("fp32", "float32", False)
    assert (recipe.ema_offload, recipe.optimizer_offload, recipe.on_alarm) == (False, False, "warn")
