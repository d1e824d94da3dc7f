"""LoRA adapters as recipes describe them: rank, scale and layers. Recipes read this where no network runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sidlsg.runtime.errors import InputError, nearest

LORA_FILE = "pytorch_lora_weights.safetensors"
"""A student's adapter, by diffusers' own name."""
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
)
"""DMD2's layers (arXiv 2405.14867, its published code); of these, a UNet is adapted where it has them."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA adapter: each targeted layer's W becomes W + (alpha / rank) B A, with B = 0 at the start."""

    rank: int
    alpha: float = 8.0
    targets: tuple[str, ...] = TARGETS
    """Ends of layers' names, in whole parts."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Adapter:
        """Read a recipe's `adapter`.

        Raises:
            InputError: a value is unknown, missing or cannot be used.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InputError(f"adapter has no value {name!r}{nearest(name, names)}; it has: {', '.join(names)}")
        rank, alpha, targets = (values.get(name) for name in names)
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise InputError(f'adapter has rank {rank!r}; give a whole number from 1, such as {{"rank": 64}}')
        alpha = cls.alpha if alpha is None else alpha
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
            raise InputError(f"adapter has alpha {alpha!r}; it must be a finite number above 0")
        targets = TARGETS if targets is None else targets
        named = isinstance(targets, list | tuple) and all(isinstance(each, str) and each for each in targets)
        if not named or not targets or len(set(targets)) < len(targets):
            raise InputError(f'adapter has targets {targets!r}; give names of layers, each once, such as ["to_q"]')
        return cls(rank=rank, alpha=float(alpha), targets=tuple(targets))

    def values(self) -> dict[str, Any]:
        """Every value, fit for JSON."""
        return {**asdict(self), "targets": list(self.targets)}

    @property
    def scale(self) -> float:
        """What B A is multiplied with."""
        return self.alpha / self.rank
