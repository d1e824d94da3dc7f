"""A sweep's settings: their syntax, the changes of a recipe that they stand for, and the setting of a student."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidlsg.distil.guidance import Guidance, make_guidance
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes

SETTINGS = (
    "none",
    "long kappa4=2",
    "short kappa_eval=0.5",
    "lsg kappa=1.2",
    "lsg kappa=1.5",
    "lsg kappa=2",
    "lsg kappa=3",
    "lsg kappa=4.5",
)
"""Default settings of a sweep: every strategy of the paper, and long-short guidance at κ from 1.2 to 4.5."""
SWEPT = ("strategy", "scales")
"""The recipe's values that a setting sets."""
EXAMPLE = "'lsg kappa=1.5'"

Kappas = tuple[float, float, float, float]


@dataclass(frozen=True)
class GuidanceSetting:
    """A guidance strategy with its scales."""

    strategy: str
    scales: Mapping[str, float]

    @property
    def text(self) -> str:
        """The setting as users write it, each number in its shortest form: `lsg kappa=1.5`."""
        return " ".join([self.strategy, *(f"{name}={_number(value)}" for name, value in self.scales.items())])

    @property
    def folder(self) -> str:
        """Name of the results' folder: `lsg-kappa-1.5`."""
        return self.text.replace(" ", "-").replace("=", "-")

    @property
    def guidance(self) -> Guidance:
        """The four κ."""
        return make_guidance(self.strategy, dict(self.scales))


def parse_setting(text: str) -> GuidanceSetting:
    """Read a setting such as `none`, `lsg kappa=1.5` or `short kappa_eval=0.5`.

    Raises:
        InputError: the text is empty or malformed, or its strategy or scales cannot be used.
    """
    strategy, *parts = text.split() or [""]
    if not strategy:
        raise InputError(f"a setting is empty; give a strategy and its scales, such as {EXAMPLE}")
    scales: dict[str, float] = {}
    for part in parts:
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError as error:
            raise InputError(
                f"setting {text!r} has {part!r}, which is not NAME=NUMBER; give one such as {EXAMPLE}"
            ) from error
        if name in scales:
            raise InputError(f"setting {text!r} gives {name} twice; give it once")
        scales[name] = value
    setting = GuidanceSetting(strategy, scales)
    try:
        _ = setting.guidance
    except InputError as error:
        raise InputError(f"setting {text!r}: {error}") from error
    return setting


def parse_settings(texts: Sequence[str]) -> dict[Kappas, GuidanceSetting]:
    """Read a sweep's settings, by their four κ and in order.

    Raises:
        InputError: there are no settings, one cannot be used, or two are equivalent.
    """
    if not texts:
        raise InputError(f"a sweep without settings would compare nothing; give some, such as {EXAMPLE}")
    settings: dict[Kappas, GuidanceSetting] = {}
    for setting in map(parse_setting, texts):
        kappas = setting.guidance.scales
        if kappas in settings:
            raise InputError(
                f"settings {settings[kappas].text!r} and {setting.text!r} mean the same, {_equation(kappas)}; give one"
            )
        settings[kappas] = setting
    return settings


def plan_changes(settings: Sequence[str], recipe: str, changes: str) -> list[dict[str, Any]]:
    """The checked recipe changes of each of a sweep's settings.

    Args:
        settings: such as `lsg kappa=1.5`.
        recipe: the recipe's name.
        changes: JSON object of other values of the recipe to override.

    Raises:
        InputError: a setting, the recipe or a change cannot be used, or two settings are equivalent.
    """
    parsed, values = parse_settings(settings).values(), parse_changes(changes)
    if given := [name for name in SWEPT if name in values]:
        raise InputError(
            f"changes {changes} replace {' and '.join(given)}, which a sweep's settings do; leave them out"
        )
    planned = [values | {"strategy": each.strategy, "scales": dict(each.scales)} for each in parsed]
    # Equal settings give equal text, however they were written: a cache compares the text.
    texts = [json.dumps(each, sort_keys=True) for each in planned]
    for text in texts:
        recipe_with_changes(recipe, text)
    return [json.loads(text) for text in texts]


def setting_of(kappas: Kappas | None, settings: Mapping[Kappas, GuidanceSetting]) -> GuidanceSetting:
    """The setting of a student or a scorecard, by its κ.

    Raises:
        InputError: no setting has these κ.
    """
    if kappas is None or kappas not in settings:
        found = "unknown κ" if kappas is None else _equation(kappas)
        allowed = ", ".join(repr(setting.text) for setting in settings.values())
        raise InputError(f"a student of {found} belongs to no setting of this sweep; its settings are: {allowed}")
    return settings[kappas]


def _equation(kappas: Kappas) -> str:
    return f"κ1..κ4 = {', '.join(map(_number, kappas))}"


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
