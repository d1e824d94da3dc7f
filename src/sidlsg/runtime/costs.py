"""Costs of a run: seconds of each stage at hourly prices."""

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
"""The stages with a price: those whose duration is known."""
EXAMPLE = '{"distil": 12.5, "curate": 0.4}'


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Hourly prices in any one currency; 0 is unknown."""

    default: float = 0.0
    """Of a stage that is not named."""
    by_stage: Mapping[str, float] = field(default_factory=dict)
    """Of a stage with all its nodes and GPUs."""

    def __post_init__(self) -> None:
        named = {"hourly_price": self.default} | {f"price of {stage}": each for stage, each in self.by_stage.items()}
        for name, price in named.items():
            if not (math.isfinite(price) and price >= 0):
                raise InputError(f"{name} is {price}, not a price; give a finite number of 0 or more")

    def of(self, stage: str) -> float:
        """A stage's price."""
        return self.by_stage.get(stage, self.default)


def parse_prices(text: str, default: float = 0.0) -> Prices:
    """Read a JSON object of prices by stage, such as `{"distil": 12.5}`; raises InputError for any other text."""
    try:
        given = parse_json(text, pairs_hook=_each_once)
    except ValueError as error:
        raise InputError(f"prices {text[:200]!r} are not JSON ({error}); give an object such as {EXAMPLE}") from error
    if not isinstance(given, dict):
        raise InputError(f"prices {text!r} are not a JSON object; give one such as {EXAMPLE}")
    for stage, price in given.items():
        if stage not in STAGES:
            raise InputError(
                f"prices name {stage!r}, which is not a stage with a price{nearest(stage, STAGES)}; allowed: "
                f"{', '.join(STAGES)}"
            )
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise InputError(f"price of {stage} is {price!r}, not a number; give a finite one of 0 or more")
    return Prices(default=default, by_stage={stage: float(price) for stage, price in given.items()})


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """A stage or the sum in a table; texts are empty where no price is known."""

    stage: str
    time: str
    share: float
    """Percent of the whole time."""
    price: str
    cost: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The costs of all stages."""

    priced: bool
    """Whether any stage has a price."""
    stages: tuple[StageCost, ...]
    total: StageCost
    amount: float
    """The sum; 0 where no price is known."""
    unpriced: tuple[str, ...]
    """Stages without a price, which the sum excludes."""


def cost(seconds: dict[str, float], prices: Prices) -> Cost:
    """The cost of each stage, in the given order; raises InputError where seconds are negative or not finite."""
    for stage, value in seconds.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"seconds of {stage} is {value}; give a finite number of 0 or more")
    whole = math.fsum(seconds.values())
    amounts = {stage: spent / 3600 * prices.of(stage) for stage, spent in seconds.items()}
    amount = math.fsum(amounts.values())
    priced = any(prices.of(stage) > 0 for stage in seconds)
    # More digits than cents for a run that costs less than one.
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
    """Seconds and price of each stage as JSON, a step's output that `cost_of_json` reads."""
    return json.dumps(
        [{"stage": stage, "seconds": spent, "price": prices.of(stage)} for stage, spent in seconds.items()]
    )


def cost_of_json(text: str) -> Cost:
    """The cost of what `costs_json` wrote."""
    rows = parse_json(text)
    seconds = {row["stage"]: float(row["seconds"]) for row in rows}
    return cost(seconds, Prices(by_stage={row["stage"]: float(row["price"]) for row in rows}))
