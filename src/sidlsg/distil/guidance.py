"""Guidance: f_κ(x_t, c) = f(x_t, ∅) + κ (f(x_t, c) - f(x_t, ∅)), its scales κ1..κ4, and strategies that set them.

Recipes read the strategies where no network runs, so torch is imported by the one function that needs it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidlsg.runtime.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from sidlsg.teacher.conditioning import Conditioning

KAPPAS = ("kappa1", "kappa2", "kappa3", "kappa4")


@dataclass(frozen=True)
class Guidance:
    """The four guidance scales of SiD-LSG (arXiv 2406.01561, section 3)."""

    kappa1: float
    """Trains the fake score."""
    kappa2: float
    """Evaluates the fake score in the first factor of the generator's loss."""
    kappa3: float
    """Evaluates the fake score in the second factor, the α term included."""
    kappa4: float
    """Evaluates the teacher."""

    def __post_init__(self) -> None:
        for name, value in zip(KAPPAS, self.scales, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"{name} is {value!r}; a guidance scale is a finite number such as 1.5")

    @property
    def scales(self) -> tuple[float, float, float, float]:
        """(κ1, κ2, κ3, κ4)."""
        return self.kappa1, self.kappa2, self.kappa3, self.kappa4

    @property
    def drops_prompts(self) -> bool:
        """Whether the fake score needs its unconditional half trained: κ1, κ2 or κ3 differs from 1."""
        return self.scales[:3] != (1, 1, 1)


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


STRATEGIES: dict[str, Callable[..., Guidance]] = {
    strategy.__name__: strategy for strategy in (none, long, short, lsg, zero_cfg, anti_cfg)
}
"""Every strategy by name; each takes its scales and returns the four κ."""
_MAKERS: dict[str, Callable[..., Guidance]] = {**STRATEGIES, "custom": Guidance}


def scales_of(strategy: str) -> Mapping[str, inspect.Parameter]:
    """The scales that a strategy in `STRATEGIES`, or `custom`, takes; raises InputError for another name."""
    if strategy not in _MAKERS:
        raise InputError(
            f"guidance strategy {strategy!r} is unknown{nearest(strategy, _MAKERS)}; allowed: {', '.join(_MAKERS)}"
        )
    return inspect.signature(_MAKERS[strategy]).parameters


def make_guidance(strategy: str, scales: dict[str, float]) -> Guidance:
    """The four κ of a strategy in `STRATEGIES`, or of `custom`, whose scales are kappa1 to kappa4.

    Raises:
        InputError: the name or a scale is unknown, missing or not a number.
    """
    parameters = scales_of(strategy)
    for name in scales:
        if name not in parameters:
            takes = ", ".join(parameters) or "no scale at all"
            raise InputError(f"strategy {strategy!r} has no scale {name!r}; it takes: {takes}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in scales:
            raise InputError(f"strategy {strategy!r} needs {name}, for example {name}=1.5")
    return _MAKERS[strategy](**scales)


def _not_negative(strategy: str, guidance: Guidance) -> Guidance:
    """Refuse κ < 0, which turns away from the prompt, in a strategy that does not mean to."""
    if min(guidance.scales) < 0:
        given = ", ".join(f"{kappa:g}" for kappa in guidance.scales)
        raise InputError(
            f"strategy {strategy!r} is given κ1..κ4 = {given}; it takes 0 or more: give such a scale, or strategy "
            "'anti_cfg' or 'custom', which take scales below 0"
        )
    return guidance


def guidance_pair(unet: Any, x_t: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning) -> tuple[Tensor, Tensor]:
    """f(x_t, c) and f(x_t, ∅) from one forward of 2B samples; gradient flows through both.

    Shapes: x_t: [B, C, H, W]; t: [B]; cond, the encoded prompts: [B, L, D]; uncond, the encoded empty prompt:
    [1, L, D] or [B, L, D].
    """
    import torch

    from sidlsg.teacher.conditioning import expanded, joined

    text = joined(cond, expanded(uncond, cond))
    out_cond, out_uncond = unet(torch.cat([x_t, x_t]), torch.cat([t, t]), text).sample.chunk(2)
    return out_cond, out_uncond


def combine(out_cond: Tensor, out_uncond: Tensor, kappa: float) -> Tensor:
    """f_κ = f(x_t, ∅) + κ (f(x_t, c) - f(x_t, ∅)), in float32 (float64 stays).

    The x0-prediction is affine in the output, with the same coefficients for both halves: combining outputs equals
    combining x0-predictions.
    """
    out_cond, out_uncond = _float32(out_cond), _float32(out_uncond)
    return out_uncond + kappa * (out_cond - out_uncond)


def guided_output(unet: Any, x_t: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning, kappa: float) -> Tensor:
    """f_κ(x_t, c) in float32 (float64 stays); at κ = 1 or 0 only the half that counts runs."""
    from sidlsg.teacher.conditioning import expanded

    if kappa in (0, 1):
        return _float32(unet(x_t, t, cond if kappa == 1 else expanded(uncond, cond)).sample)
    return combine(*guidance_pair(unet, x_t, t, cond, uncond), kappa)


def _float32(x: Tensor) -> Tensor:
    return x if x.itemsize >= 4 else x.float()
