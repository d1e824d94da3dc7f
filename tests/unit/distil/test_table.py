"""The recipes' values and the results published for them."""

from __future__ import annotations

import pytest

from sidlsg.distil.recipes import RECIPES
from sidlsg.teacher.architectures import architecture_of

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
    assert set(RECIPES) == {"tiny", "sd21", *PUBLISHED}


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
    assert recipe.published == ()
    assert (recipe.guidance.scales, recipe.batch, recipe.lr) == ((1.5,) * 4, 512, 1e-6)


def test_the_tiny_recipe_computes_in_float32_with_everything_on_the_device() -> None:
    recipe = RECIPES["tiny"]
    assert (recipe.batch, recipe.micro_batch, recipe.iterations) == (64, 64, 260)
    assert (recipe.precision, recipe.text_states, recipe.activation_checkpointing) == ("fp32", "float32", False)
    assert (recipe.ema_offload, recipe.optimizer_offload, recipe.on_alarm) == (False, False, "warn")
