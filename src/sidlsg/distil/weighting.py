"""Weights of a sample in the generator's loss, by name. Recipes read the names where no network runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OMEGA = "omega"
"""1/ω_b, of the sample's own prediction; see `sidlsg.distil.losses.omega`."""
OF_SIGMA: dict[str, Callable[[Tensor], Tensor]] = {
    "1-sigma": lambda sigma: 1 - sigma,
    "(1-sigma)^2": lambda sigma: (1 - sigma) ** 2,
    "1/sigma": lambda sigma: 1 / sigma,
    "1/sigma^2": lambda sigma: 1 / sigma**2,
    "(1-sigma)/sigma": lambda sigma: (1 - sigma) / sigma,
    "((1-sigma)/sigma)^2": lambda sigma: ((1 - sigma) / sigma) ** 2,
}
"""By σ, the factor of the noise in x_t: a flow's own time, or s_t (arXiv 2509.25127, its published code)."""
GENERATOR_WEIGHTS = (OMEGA, *OF_SIGMA)
