"""What a run took: seconds by stage, and money where a price is known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from sidlsg.runtime.costs import Prices
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import duration
from sidlsg.runtime.parsing import parse_json


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage, or all of them."""

    stage: str
    time: str
    share: float
    """Of the whole, in percent."""
    price: str
    """For an hour; empty where there is none, and of the sum."""
    cost: str
    """Empty where there is no price."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The stages and their sum."""

    priced: bool
    """Whether any stage has a price."""
    stages: tuple[StageCost, ...]
    total: StageCost
    amount: float
    """What all stages cost; 0 where no price is known."""
    unpriced: tuple[str, ...]
    """Stages without a price, which the sum leaves out."""


def cost(seconds: dict[str, float], prices: Prices) -> Cost:
    """Cost of each stage at its price.

    Args:
        seconds: by stage, in the order of the stages.
        prices: of an hour.

    Raises:
        InputError: a number is negative or not finite.
    """
    for stage, value in seconds.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"seconds of {stage} is {value}; give a finite number of 0 or more")
    whole = math.fsum(seconds.values())
    amounts = {stage: spent / 3600 * prices.of(stage) for stage, spent in seconds.items()}
    amount = math.fsum(amounts.values())
    priced = any(prices.of(stage) > 0 for stage in seconds)
    # Cents are enough for a bill, not for a run that costs less than one.
    digits = 2 if amount >= 1 else 4

    def row(stage: str, spent: float, price: float, paid: float | None) -> StageCost:
        return StageCost(
            stage=stage,
            time=duration(spent),
            share=100 * spent / whole if whole else 0.0,
            price=f"{price:,.2f}" if price > 0 else "",
            cost="" if paid is None else f"{paid:,.{digits}f}",
        )

    return Cost(
        priced=priced,
        stages=tuple(
            row(stage, spent, prices.of(stage), amounts[stage] if prices.of(stage) > 0 else None)
            for stage, spent in seconds.items()
        ),
        total=row("all stages", whole, 0.0, amount if priced else None),
        amount=amount,
        unpriced=tuple(stage for stage in seconds if not prices.of(stage) > 0) if priced else (),
    )


def costs_json(seconds: dict[str, float], prices: Prices) -> str:
    """The seconds and the price of each stage, for whoever shows them elsewhere: a JSON list in the stages' order."""
    return json.dumps(
        [{"stage": stage, "seconds": spent, "price": prices.of(stage)} for stage, spent in seconds.items()]
    )


def cost_of_json(text: str) -> Cost:
    """What `costs_json` was made of, with its sum.

    Raises:
        InputError: a number is negative or not finite.
    """
    rows = parse_json(text)
    seconds = {row["stage"]: float(row["seconds"]) for row in rows}
    return cost(seconds, Prices(by_stage={row["stage"]: float(row["price"]) for row in rows}))
