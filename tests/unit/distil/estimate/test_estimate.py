"""The whole estimate: of the tiny teacher here, of the true ones in the long suite."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from sidlsg.cli import app as cli
from sidlsg.cli.estimate_table import print_estimate
from sidlsg.distil.estimate.devices import GIB, GPUS, Gpu
from sidlsg.distil.estimate.estimate import Estimate, estimate
from sidlsg.distil.estimate.speed import MFU
from sidlsg.distil.recipes import RECIPES, get_recipe, recipe_with_changes
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.architectures import ARCHITECTURES, Architecture


@pytest.fixture(scope="module")
def found(small: Architecture) -> Estimate:
    return estimate(small, get_recipe("tiny"), GPUS["a10g"], world_size=2, text_encoder=10**6)


@pytest.mark.long
def test_parts_add_up_and_time_follows_from_work(found: Estimate) -> None:
    assert found.total == sum(found.parts.values())
    assert found.fits
    assert found.micro_batch == 32  # half of the batch
    assert found.largest_micro_batch == 32
    assert found.seconds == pytest.approx(32 * found.flops / (GPUS["a10g"].peaks["fp32"] * MFU))
    assert found.images_per_second == pytest.approx(64 / found.seconds)
    assert found.gpu_hours == pytest.approx(260 * found.seconds * 2 / 3600)
    assert found.fits_one is not None
    assert found.fits_one.settings == get_recipe("tiny").settings
    # In a process whose share is one micro-batch, the flag still names it where the recipe says another.
    assert found.advice == "--set micro_batch=32"


def test_it_is_shown_in_80_columns(found: Estimate, capsys: pytest.CaptureFixture[str]) -> None:
    print_estimate(found, "bundled:tiny-sd", price=1.5)
    text = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for words in (
        "host memory for",
        "disk for checkpoints",
        "Fastest options that fit one",
        "Recipe tiny",
        "2 × a10g",
        "optimizer states",
        "assumed",
        "GPU-hours",
        "which cost",
        "docs/estimate",
    ):
        assert words in text
    assert "takes 4 passes" not in text
    several = dataclasses.replace(found, recipe=get_recipe("tiny_4step"))
    print_estimate(several, "bundled:tiny-sd", price=0)
    assert "Its student takes 4 passes of the network to sample an image." in capsys.readouterr().out
    unknown = dataclasses.replace(found, seconds=None, fits_one=None, fits_enough=None, largest_micro_batch=0)
    print_estimate(unknown, "bundled:tiny-sd", price=0)
    text = capsys.readouterr().out
    assert "no time, no price" in text
    assert "No options make it fit; it takes more memory, or several GPUs" in text


def test_a_batch_that_does_not_divide_is_refused(small: Architecture) -> None:
    with pytest.raises(InputError, match="batch 64 does not divide among 3 processes"):
        estimate(small, get_recipe("tiny"), GPUS["h100"], world_size=3)


def test_the_command_prints_it(
    one_level: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["estimate", "--teacher", str(one_level), "--recipe", "tiny", "--gpu", "l4", "--memory-gb", "0.5"]
    arguments += ["--encoded", "--set", "batch=32"]
    monkeypatch.setattr(sys, "argv", ["sidlsg", *arguments])
    cli.main()
    text = capsys.readouterr().out
    assert "simulating an iteration in fp32, activations kept" in text
    assert f"Recipe tiny, teacher {one_level}, on l4 with 0.5 GB" in " ".join(text.split())
    assert "text encoder" not in text
    assert "No options make it fit" in text  # a GPU's own gigabyte does not


@pytest.mark.long
@pytest.mark.parametrize("gpu", ["4090", "l4"])
def test_sd15_with_its_ema_fits_a_card_of_24_gb(gpu: str) -> None:
    architecture = ARCHITECTURES["sd15"]
    found = estimate(architecture, get_recipe("sd15"), GPUS[gpu], text_encoder=architecture.text_encoder_parameters)
    assert not found.fits
    assert found.fits_one is not None
    assert found.fits_one.settings.optimizer == "adam"
    assert found.fits_enough is not None
    # What it advises fits when it is estimated on its own.
    changes = {
        name: json.loads(value) if value in ("true", "false") else int(value)
        for name, value in (word.split("=") for word in found.advice.split() if "=" in word)
    }
    advised = recipe_with_changes("sd15", json.dumps(changes))
    assert estimate(
        architecture, advised, GPUS[gpu], text_encoder=architecture.text_encoder_parameters, advise=False
    ).fits


@pytest.mark.long
def test_adapters_of_sd15_fit_a_card_of_24_gb_at_a_micro_batch_of_8() -> None:
    recipe, architecture = get_recipe("sd15_lora"), ARCHITECTURES["sd15"]
    text_encoder = architecture.text_encoder_parameters
    found = estimate(architecture, recipe, GPUS["4090"], text_encoder=text_encoder, advise=False)
    assert found.micro_batch == 8
    assert found.fits
    assert found.largest_micro_batch >= 8
    assert not (recipe.ema_offload or recipe.optimizer_offload)
    assert found.parts["teacher"] == 2 * 859_520_964
    assert found.parts["generator"] == found.parts["fake score"] == found.parts["EMA"] == 4 * 67_252_224


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() & RECIPES.keys()))
def test_the_recipes_fit_a_gpu_of_80_gb_with_a_tenth_to_spare(name: str) -> None:
    card = Gpu(name="80 GB", memory=round(79 * GIB), peaks={})
    text_encoder = ARCHITECTURES[name].text_encoder_parameters
    found = estimate(ARCHITECTURES[name], get_recipe(name), card, text_encoder=text_encoder, advise=False)
    assert found.fits
    assert found.seconds is None
    assert found.total * 1.1 < card.memory
