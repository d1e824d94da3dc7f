"""The memory check before training, on this machine."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch

from sidlsg.distil.estimate.estimate import check_fits
from sidlsg.distil.estimate.iteration import measure
from sidlsg.distil.estimate.memory import Network, Use, upper_bound
from sidlsg.distil.recipes import get_recipe
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.architectures import Architecture

CPU = torch.device("cpu")


def test_a_small_run_passes_at_once_with_one_line(small: Architecture) -> None:
    lines: list[str] = []
    recipe = dataclasses.replace(get_recipe("tiny"), batch=4, micro_batch=4)
    began = time.process_time()
    check_fits(small, recipe, 1, CPU, 10**6, lines.append)
    assert time.process_time() - began < 2
    assert len(lines) == 1
    assert lines[0].startswith("memory: at most ")


@pytest.mark.parametrize("name", ["tiny", pytest.param("tiny_lora", marks=pytest.mark.long)])
def test_the_bound_is_above_the_estimate(small: Architecture, name: str) -> None:
    recipe = dataclasses.replace(get_recipe(name), batch=8, micro_batch=8)
    use = Use(network=Network.of(small, recipe.lora), settings=recipe.settings, gpu=False)
    needed = sum(use.at(measure(small, recipe, recipe.settings, accumulated=True, gpu=False), 8).values())
    assert needed < upper_bound(small, use, 8) < 20 * needed


@pytest.mark.long
def test_a_run_that_cannot_fit_is_refused_with_what_would(small: Architecture) -> None:
    recipe = dataclasses.replace(get_recipe("tiny"), batch=2**20, micro_batch=2**20)
    with pytest.raises(InputError) as caught:
        check_fits(small, recipe, 1, CPU, 0, lambda _: None)
    message = str(caught.value)
    assert "recipe 'tiny' at micro_batch 1048576 needs about " in message
    assert "GB are free; what would fit: --set micro_batch=" in message
