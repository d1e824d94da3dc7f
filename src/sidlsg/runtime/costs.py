"""What an hour costs: a price for each stage of a pipeline, and one for those that have none of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidlsg.runtime.errors import InputError, nearest
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
