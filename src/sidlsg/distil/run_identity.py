"""What makes a training run this one and no other, and the manifest of a checkpoint, which carries that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from sidlsg.distil import NUMERICS
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.state import Counters
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import sha256_bytes

MANIFEST = "checkpoint.json"
ITERATION = r"\d{9}"
"""The name of a checkpoint's folder, as a pattern."""


@dataclass(frozen=True)
class RunIdentity:
    """By name: the recipe's values that decide the result, teacher, prompts, seed and, as `code`, NUMERICS.

    Only an equal run continues its checkpoints unasked.
    """

    parts: dict[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of the parts."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    def differences(self, other: RunIdentity) -> list[str]:
        """How another run differs, in words such as `lr is 2e-06 here and 1e-06 there`."""
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


def run_identity(
    recipe: Recipe,
    teacher_sha256: str,
    prompts_sha256: str,
    seed: int,
    generator_sha256: str = "",
    real_images_sha256: str = "",
) -> RunIdentity:
    """Everything that a checkpoint depends on."""
    parts = {
        **recipe.identity,
        "teacher": teacher_sha256,
        "prompts": prompts_sha256,
        "seed": str(seed),
        "code": NUMERICS,
    }
    optional = {"generator_from": generator_sha256, "real_images": real_images_sha256}
    return RunIdentity(parts | {name: sha256 for name, sha256 in optional.items() if sha256})


def run_name(recipe: Recipe, identity: RunIdentity) -> str:
    """A name for the run's checkpoints that no other run has, and that the same run finds again."""
    return f"{recipe.name}-{identity.key[:16]}"


@dataclass(frozen=True)
class Manifest:
    """The content of `checkpoint.json`."""

    iteration: int
    run: RunIdentity
    counters: dict[str, Any]
    files: dict[str, str]
    """SHA-256 by name."""
    score: float | None = None
    """Score of the EMA, where it was evaluated at this point; lower is better."""

    def to_json(self) -> str:
        """JSON text, with a digest of the rest in it."""
        values = {**vars(self), "run": self.run.parts}
        return json.dumps({**values, "sha256": _values_digest(values)}, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read it.

        Raises:
            ValueError: it is damaged.
        """
        try:
            values = parse_json(text)
            if values.pop("sha256") != _values_digest(values):
                raise ValueError("another digest")
            Counters.from_json(json.dumps(values["counters"]))
            values["run"] = {"parts": values["run"]}
            return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"its {MANIFEST} is damaged") from error


def _values_digest(values: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(values, sort_keys=True).encode())
