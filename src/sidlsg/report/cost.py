"""What a run took: seconds by stage, and money where a price is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sidlsg.errors import InputError
from sidlsg.report.text import duration


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage, or all of them."""

    stage: str
    time: str
    share: float
    """Of the whole, in percent."""
    cost: str
    """Empty where there is no price."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The stages and their sum."""

    price: str
    """For an hour; empty where none was given."""
    stages: tuple[StageCost, ...]
    total: StageCost


def cost(seconds: dict[str, float], hourly_price: float) -> Cost:
    """Cost of each stage at the same price.

    Args:
        seconds: by stage, in the order of the stages.
        hourly_price: of the machine, in any currency; 0 where it is not known.

    Raises:
        InputError: a number is negative or not finite.
    """
    for what, value in (("hourly_price", hourly_price), *((f"seconds of {s}", v) for s, v in seconds.items())):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{what} is {value}; give a finite number of 0 or more")
    whole = math.fsum(seconds.values())
    # Cents are enough for a bill, not for a run that costs less than one.
    digits = 2 if whole / 3600 * hourly_price >= 1 else 4

    def row(stage: str, spent: float) -> StageCost:
        return StageCost(
            stage=stage,
            time=duration(spent),
            share=100 * spent / whole if whole else 0.0,
            cost=f"{spent / 3600 * hourly_price:,.{digits}f}" if hourly_price > 0 else "",
        )

    return Cost(
        price=f"{hourly_price:,.2f}" if hourly_price > 0 else "",
        stages=tuple(row(stage, spent) for stage, spent in seconds.items()),
        total=row("all stages", whole),
    )
