"""What an hour costs: a price for each stage of a pipeline, and one for those that have none of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.formatting import duration
from sidlsg.runtime.parsing import parse_json

STAGES = ("curate", "encode", "distil", "register", "evaluate", "gate", "promote")
"""What can have a price: the stages that say how long they took."""
EXAMPLE = '{"distil": 12.5, "curate": 0.4}'


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices an hour, in any one currency."""

    default: float = 0.0
    """Of a stage that is not named; 0 where it is not known."""
    by_stage: Mapping[str, float] = field(default_factory=dict)
    """Of all that the stage takes together, its nodes and GPUs included."""

    def __post_init__(self) -> None:
        for what, price in (("hourly_price", self.default), *self.by_stage.items()):
            if not (math.isfinite(price) and price >= 0):
                name = what if what == "hourly_price" else f"price of {what}"
                raise InputError(f"{name} is {price}, not a price; give a finite number of 0 or more")

    def of(self, stage: str) -> float:
        """The price of an hour of a stage; 0 where it is not known."""
        return self.by_stage.get(stage, self.default)


def parse_prices(text: str, default: float = 0.0) -> Prices:
    """Read a JSON object of prices by stage.

    Args:
        text: such as `{"distil": 12.5}`; `{}` for none.
        default: of the stages that it does not name.

    Raises:
        InputError: it is something else, a stage is unknown, or a price is none.
    """
    try:
        given = parse_json(text, pairs_hook=_each_once)
    except ValueError as error:
        raise InputError(f"prices {text[:200]!r} are not JSON ({error}); give an object such as {EXAMPLE}") from error
    if not isinstance(given, dict):
        raise InputError(f"prices {text!r} are not a JSON object; give one such as {EXAMPLE}")
    for stage, price in given.items():
        if stage not in STAGES:
            raise InputError(
                f"prices name {stage!r}, which is no stage that has a price{nearest(stage, STAGES)}; allowed: "
                f"{', '.join(STAGES)}"
            )
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise InputError(f"price of {stage} is {price!r}, not a number; give a finite one of 0 or more")
    return Prices(default=default, by_stage={stage: float(price) for stage, price in given.items()})


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


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
