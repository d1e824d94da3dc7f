"""Chooses what to turn on so that a run fits: the cheapest set of options that lets enough samples in at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sidlsg.distil.estimate.iteration import Passes
from sidlsg.distil.estimate.memory import Use
from sidlsg.distil.settings import Settings
from sidlsg.runtime.errors import InputError

OPTIONS: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adam", "adam8bit"),
    "activation_checkpointing": (False, True),
    "optimizer_offload": (False, True),
    "ema_offload": (False, True),
}
"""What may be changed without changing the method, and its values."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A set of options and what it does."""

    settings: Settings
    micro_batch: int
    """The largest that fits; 0 for none."""
    seconds: float
    """Of an iteration, by which choices compare."""

    def flags(self, recipe: Settings) -> str:
        """The `--set` options that turn a recipe's settings into these."""
        changed = {name: getattr(self.settings, name) for name in OPTIONS}
        words = [
            f"--set {name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in changed.items()
            if value != getattr(recipe, name)
        ]
        return " ".join(words)


def choices(
    use: Use,
    passes: Callable[[bool], Passes],
    available: int,
    most: int,
    seconds: Callable[[Use], float],
) -> list[Choice]:
    """Every set of options, cheapest first: 8-bit states last, because they round; the rest by time.

    Args:
        use: whose settings are varied.
        passes: measured with activation checkpointing or without.
        available: bytes of the device.
        most: samples of one process in a batch.
        seconds: of an iteration.
    """
    found = []
    for values in itertools.product(*OPTIONS.values()):
        try:
            settings = replace(use.settings, **dict(zip(OPTIONS, values, strict=True)))
        except InputError:
            continue  # options that exclude each other
        varied = replace(use, settings=settings)
        measured = passes(settings.activation_checkpointing)
        found.append(
            Choice(
                settings=settings,
                micro_batch=varied.largest_micro_batch(measured, available, most),
                seconds=seconds(varied),
            )
        )
    return sorted(found, key=lambda choice: (choice.settings.optimizer == "adam8bit", choice.seconds))


def cheapest(found: list[Choice], micro_batch: int) -> Choice | None:
    """The first choice that lets so many samples in at once."""
    return next((choice for choice in found if choice.micro_batch >= micro_batch), None)
