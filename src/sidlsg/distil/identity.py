"""What makes a training run this one and no other: only an equal run continues its checkpoints unasked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class RunIdentity:
    """By name: the recipe's values that decide the result, teacher, prompts, seed and, as `code`, NUMERICS."""

    parts: dict[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of the parts."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    def differences(self, other: RunIdentity) -> list[str]:
        """In words, what another run has otherwise: `lr is 2e-06 here and 1e-06 there`."""
        names = sorted(self.parts.keys() | other.parts.keys())
        return [
            f"{name} is {_short(self.parts.get(name))} here and {_short(other.parts.get(name))} there"
            for name in names
            if self.parts.get(name) != other.parts.get(name)
        ]


def _short(value: str | None) -> str:
    if value is None:
        return "not known"
    return f"{value[:12]}…" if len(value) == 64 else value
