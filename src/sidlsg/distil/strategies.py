"""The four guidance scales κ1..κ4, and the named strategies that set them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from sidlsg.runtime.errors import InputError, nearest


@dataclass(frozen=True)
class Guidance:
    """The guidance scales of SiD-LSG (arXiv 2406.01561, section 3)."""

    kappa1: float
    """Trains the fake score."""
    kappa2: float
    """Evaluates the fake score at its first place in the generator's loss."""
    kappa3: float
    """Evaluates the fake score at its second place, the α term included."""
    kappa4: float
    """Evaluates the teacher."""

    def __post_init__(self) -> None:
        for name in ("kappa1", "kappa2", "kappa3", "kappa4"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"{name} is {value!r}; a guidance scale is a finite number such as 1.5")

    @property
    def drops_prompts(self) -> bool:
        """Whether the fake score needs its unconditional half trained: κ1, κ2 or κ3 differs from 1."""
        return (self.kappa1, self.kappa2, self.kappa3) != (1, 1, 1)

    @property
    def scales(self) -> tuple[float, float, float, float]:
        """(κ1, κ2, κ3, κ4)."""
        return self.kappa1, self.kappa2, self.kappa3, self.kappa4


def none() -> Guidance:
    """Plain SiD: no guidance anywhere."""
    return Guidance(1, 1, 1, 1)


def long(kappa4: float) -> Guidance:
    """Guide the teacher alone, κ4 > 1."""
    return _not_negative("long", Guidance(1, 1, 1, kappa4))


def short(kappa_eval: float, kappa_train: float = 1.0) -> Guidance:
    """Weaken the fake score: κ2 = κ3 in (0, 1) when it is evaluated, or κ1 > 1 when it is trained."""
    return _not_negative("short", Guidance(kappa_train, kappa_eval, kappa_eval, 1))


def lsg(kappa: float) -> Guidance:
    """Long-short guidance, the method's default: one κ for all four."""
    return _not_negative("lsg", Guidance(kappa, kappa, kappa, kappa))


def zero_cfg() -> Guidance:
    """No guidance in the teacher and no text in the fake score (arXiv 2505.12674)."""
    return Guidance(0, 0, 0, 1)


def anti_cfg(kappa: float = -1.0) -> Guidance:
    """Negative guidance in the fake score (arXiv 2505.12674); the default -1 is this project's choice."""
    return Guidance(kappa, kappa, kappa, 1)


def _not_negative(strategy: str, guidance: Guidance) -> Guidance:
    """A κ below 0 turns away from the prompt; where that is not the point of a strategy, it is a slip."""
    if min(guidance.scales) < 0:
        given = ", ".join(f"{kappa:g}" for kappa in guidance.scales)
        raise InputError(
            f"strategy {strategy!r} is given κ1..κ4 = {given}; it takes 0 or more: give such a scale, or strategy "
            "'anti_cfg' or 'custom', which take scales below 0"
        )
    return guidance


STRATEGIES: dict[str, Callable[..., Guidance]] = {
    "none": none,
    "long": long,
    "short": short,
    "lsg": lsg,
    "zero_cfg": zero_cfg,
    "anti_cfg": anti_cfg,
}
"""Every strategy by name; each takes its scales and returns the four κ."""


def make_guidance(strategy: str, scales: dict[str, float]) -> Guidance:
    """The four κ of a strategy by name.

    Args:
        strategy: a name in `STRATEGIES`, or `custom` for four free scales.
        scales: the strategy's arguments; of `custom`, kappa1 to kappa4.

    Raises:
        InputError: the name or an argument is unknown, missing or not a number.
    """
    makers = {**STRATEGIES, "custom": Guidance}
    if strategy not in makers:
        raise InputError(
            f"guidance strategy {strategy!r} is unknown{nearest(strategy, makers)}; allowed: {', '.join(makers)}"
        )
    parameters = inspect.signature(makers[strategy]).parameters
    for name in scales:
        if name not in parameters:
            takes = ", ".join(parameters) or "no scale at all"
            raise InputError(f"strategy {strategy!r} has no scale {name!r}; it takes: {takes}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in scales:
            raise InputError(f"strategy {strategy!r} needs {name}, for example {name}=1.5")
    return makers[strategy](**scales)
