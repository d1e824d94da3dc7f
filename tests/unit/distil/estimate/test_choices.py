"""Which options make a run fit."""

from __future__ import annotations

import dataclasses

from sidlsg.distil.estimate.estimate import Choice, choices, fastest
from sidlsg.distil.estimate.fake_networks import ACTIVATIONS, GRADIENTS, WEIGHT_COPIES
from sidlsg.distil.estimate.iteration import IterationNeeds
from sidlsg.distil.estimate.memory import Network, Use
from sidlsg.distil.recipes import Settings

N = 100_000_000
USE = Use(network=Network(parameters=N, block=N // 10, trained=N), settings=Settings())


def needs(checkpointing: bool) -> IterationNeeds:
    """Activation checkpointing takes a tenth of the memory and more work."""
    each = 100_000_000 if checkpointing else 1_000_000_000

    def peak(samples: int) -> dict[str, int]:
        return {ACTIVATIONS: samples * each, GRADIENTS: 4 * N, WEIGHT_COPIES: 0}

    return IterationNeeds(small=peak(1), large=peak(2), micro_batch=2, flops=1.3e12 if checkpointing else 1e12)


def found(available: float, use: Use = USE) -> list[Choice]:
    return choices(use, needs, round(available), 512, 100e12, 0.4)


def test_nothing_is_turned_on_where_there_is_room() -> None:
    choice = fastest(found(80e9), 4)
    assert choice is not None
    assert choice.settings == Settings()
    assert choice.flags(Settings()) == ""


def test_offloading_comes_before_recomputing_and_8_bits_come_last() -> None:
    """In GB: persistent parts 2.4 with optimizer states of 0.8, gradients 0.4, the context 1, an image 1.05."""
    one = fastest(found(4.6e9), 1)
    assert one is not None
    assert one.flags(Settings()) == "--set optimizer_offload=true"
    many = fastest(found(4.6e9), 4)
    assert many is not None
    assert many.settings.activation_checkpointing
    assert many.settings.optimizer == "adam"
    order = [choice.settings.optimizer for choice in found(4.6e9)]
    assert order == sorted(order)


def test_options_that_exclude_each_other_are_not_offered() -> None:
    assert all(
        not (choice.settings.optimizer == "adam8bit" and choice.settings.optimizer_offload) for choice in found(1e9)
    )
    sharded = dataclasses.replace(USE, settings=Settings(parallel="fsdp"), world_size=4)
    assert all(not c.settings.ema_offload and c.settings.optimizer == "adam" for c in found(1e9, sharded))


def test_no_choice_is_made_where_nothing_fits() -> None:
    assert fastest(found(1e9), 1) is None


def test_flags_turn_off_what_a_recipe_has_and_does_not_need() -> None:
    choice = fastest(found(80e9), 1)
    assert choice is not None
    assert choice.flags(Settings(ema_offload=True)) == "--set ema_offload=false"
