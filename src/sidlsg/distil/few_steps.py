"""The steps of a student of K steps: their timesteps, which of them an iteration trains, and the noise of each.

Plain arithmetic and tensors in, tensors out: nothing here knows a network, so that any noise schedule can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.families.family import FLOW_TIMES

if TYPE_CHECKING:
    from torch import Tensor

    from sidlsg.storage.records import Student
    from sidlsg.teacher.families.family import Family

MOST_STEPS = 8
"""The largest K of a recipe."""
STEP_NOISES = ("fresh", "fixed", "ddim")
"""What ε_k may be for k ≥ 2: new noise, the first step's, or the noise that the previous step implies."""


@dataclass(frozen=True, kw_only=True)
class FewSteps:
    """How a student of K steps is sampled (arXiv 2505.12674): x̂_k = G's x0-prediction at a x̂_{k-1} + s ε_k, x̂_0 = 0."""

    t_init: int = 625
    """The timestep of the first step."""
    count: int = 1
    """K."""
    noise: str = "fresh"
    """A name in `STEP_NOISES`."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.t_init:
            raise InputError(f"steps is {self.count}; allowed: 1 to t_init = {self.t_init}")
        if self.noise not in STEP_NOISES:
            raise InputError(f"step_noise is {self.noise!r}; allowed: {', '.join(STEP_NOISES)}")

    @classmethod
    def of(cls, student: Student) -> FewSteps:
        """A student's own; its record names what is not the default."""
        values = student.recipe_values
        return cls(t_init=student.t_init, count=values.get("steps", 1), noise=values.get("step_noise", "fresh"))

    @property
    def timesteps(self) -> tuple[int, ...]:
        """t_k = floor(t_init (1 - (k-1)/K)), k = 1..K."""
        return tuple(self.t_init * (self.count - i) // self.count for i in range(self.count))

    def trained(self, seed: int, iteration: int) -> int:
        """k of an iteration, uniform on {1..K}: the same for its samples, processes and both updates."""
        if self.count == 1:
            return 1
        return int(counted(seed, "distil/step", iteration).integers(1, self.count, endpoint=True))

    def fresh_noises(self, k: int) -> int:
        """How many noises besides z the first k steps need."""
        return k - 1 if self.noise == "fresh" else 0

    def following_noise(self, z: Tensor, fresh: Tensor | None, implied: Callable[[], Tensor]) -> Tensor:
        """ε_k for k ≥ 2, of these three; each is [B, C, H, W].

        Args:
            z: the first step's.
            fresh: new noise; only where `noise` is `fresh`.
            implied: gives the noise that the previous step's input and x0-prediction imply.
        """
        if self.noise == "ddim":
            return implied()
        return z if fresh is None else fresh


def check_stock_steps(family: Family, steps: FewSteps, recipe: str) -> None:
    """Check that a family's stock pipeline can sample a student's steps.

    Raises:
        InputError: it cannot; the message names the recipe.
    """
    if family.flows and steps.t_init != FLOW_TIMES:
        raise InputError(
            f"the teacher, a {family.title}, is trained by flow matching, whose student starts at t_init = "
            f"{FLOW_TIMES}, and the recipe {recipe} has {steps.t_init}; take one for flows, such as tiny_flow, or set "
            f"t_init={FLOW_TIMES}"
        )
    if steps.count > 1 and steps.noise not in family.step_noises:
        raise InputError(
            f"no stock pipeline of {family.title} samples with step_noise {steps.noise!r}, as the recipe {recipe} has; "
            f"take {' or '.join(family.step_noises)}"
        )


ONE_STEP = FewSteps()
"""A one-step student."""
