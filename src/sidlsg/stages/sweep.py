"""A sweep's settings: their syntax, the changes of a recipe that they stand for, and the setting of a student."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from sidlsg.distil.guidance import make_guidance, scales_of
from sidlsg.distil.recipes import MACHINE, Recipe, recipe_with_changes
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.overrides import changes_text, parse_changes, parse_value
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import Scorecard, Student

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
"""The recipe's values that every setting sets."""
VALUES = sorted({each.name for each in fields(Recipe)} - MACHINE - {*SWEPT, "name", "published"})
"""The recipe's values that a setting may set: those that decide the student."""
TEXT = "setting"
"""Name of the setting's text among its changes, if it sets other values than guidance."""
EXAMPLE = "'lsg kappa=1.5 steps=4'"
LONGEST_FOLDER = 100

Kappas = tuple[float, float, float, float]
SettingKey = tuple[Kappas, frozenset[tuple[str, str]]]
"""What makes a student: its four κ, however its guidance is written, and the rest of `Recipe.identity`."""


@dataclass(frozen=True)
class SweepSetting:
    """A guidance strategy with its scales, and other values of the recipe."""

    strategy: str
    scales: Mapping[str, float]
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The setting as users write it, each value in its shortest form: `lsg kappa=1.5 steps=4`."""
        scales = [f"{name}={_number(value)}" for name, value in self.scales.items()]
        return " ".join([self.strategy, *scales, *(f"{name}={_written(self.values[name])}" for name in self.values)])

    @property
    def folder(self) -> str:
        """Name of the results' folder: `lsg-kappa-1.5-steps-4`."""
        name = re.sub(r"[^\w.+-]+", "-", self.text, flags=re.ASCII).strip("-")
        # A list's items run together: ["a-b"] and ["a","b"] would have one name.
        if len(name) <= LONGEST_FOLDER and "[" not in self.text:
            return name
        return f"{name[: LONGEST_FOLDER - 9]}-{sha256_bytes(self.text.encode())[:8]}"

    @property
    def changes(self) -> dict[str, Any]:
        """The recipe's values that the setting sets."""
        return {"strategy": self.strategy, "scales": dict(self.scales), **self.values}


def parse_setting(text: str) -> SweepSetting:
    """Read a setting such as `none`, `lsg kappa=1.5` or `lsg kappa=1.5 adapter={"rank": 8}`.

    A part begins at each NAME= after a space.

    Raises:
        InputError: the text is empty or malformed, or has an unknown strategy or name, or scales that cannot be used.
    """
    first, *parts = re.split(r"\s+(?=\w+=)", text.strip())
    strategy, *stray = first.split() or [""]
    if not strategy:
        raise InputError(f"a setting is empty; give a strategy and its scales, such as {EXAMPLE}")
    with _naming(text):
        scales, values = _parse_parts(strategy, [*stray, *parts])
        make_guidance(strategy, scales)
    return SweepSetting(strategy, scales, values)


def _parse_parts(strategy: str, parts: Sequence[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """The scales, in the strategy's order, and the recipe's values, by name."""
    takes = scales_of(strategy)
    found: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} is not NAME=VALUE; give a setting such as {EXAMPLE}")
        if name in found:
            raise InputError(f"{name} is given twice; give it once")
        if name in takes:
            try:
                found[name] = float(value)
            except ValueError as error:
                raise InputError(f"{part!r} is not NAME=NUMBER; give a scale such as {name}=1.5") from error
        elif name in MACHINE:
            raise InputError(
                f"{name} says how the machine is used and gives the same student; set it for all settings, with --set "
                "or in the parameter changes"
            )
        elif name in VALUES:
            # One form of each number, as in a pipeline's parameters.
            found |= parse_changes(changes_text({name: parse_value(value)}))
        else:
            allowed = [*takes, *VALUES]
            raise InputError(
                f"{name!r} is neither a scale of strategy {strategy!r} nor a value of the recipe that a setting may "
                f"set{nearest(name, allowed)}; allowed: {', '.join(allowed)}"
            )
    return {name: found[name] for name in takes if name in found}, {
        name: found[name] for name in VALUES if name in found
    }


def parse_settings(texts: Sequence[str], recipe: str, changes: str) -> dict[SettingKey, SweepSetting]:
    """Read a sweep's settings, by what makes their students and in order.

    Args:
        texts: such as `lsg kappa=1.5`.
        recipe: the recipe's name.
        changes: JSON object of other values of the recipe to override, for all settings.

    Raises:
        InputError: there are no settings; a setting, the recipe or a change cannot be used; or two settings are
            equivalent.
    """
    if not texts:
        raise InputError(f"a sweep without settings would compare nothing; give some, such as {EXAMPLE}")
    shared, parsed = parse_changes(changes), [parse_setting(text) for text in texts]
    swept = dict.fromkeys([*SWEPT, *(name for each in parsed for name in each.values)])
    if given := [name for name in swept if name in shared]:
        raise InputError(
            f"changes {changes} replace {' and '.join(given)}, which a sweep's settings do; leave them out"
        )
    recipe_with_changes(recipe, changes)
    settings: dict[SettingKey, SweepSetting] = {}
    for setting in parsed:
        with _naming(setting.text):
            made = recipe_with_changes(recipe, json.dumps(shared | setting.changes))
            if "adversarial" in setting.values and bool(made.adversarial) is not bool(made.real_images):
                raise InputError(
                    "all settings share the real images: with --set real_images=… each needs an adversarial term, and "
                    "without them none may have one"
                )
        key = made.guidance.scales, _rest(made)
        if key in settings:
            raise InputError(
                f"settings {settings[key].text!r} and {setting.text!r} mean the same, {_equation(key[0])} and equal "
                "other values; give one"
            )
        settings[key] = setting
    return settings


def plan_changes(settings: Sequence[str], recipe: str, changes: str) -> list[dict[str, Any]]:
    """The checked recipe changes of each of a sweep's settings, see `parse_settings`.

    With them is the text of a setting that sets other values than guidance.
    """
    planned = [
        parse_changes(changes) | each.changes | ({TEXT: each.text} if each.values else {})
        for each in parse_settings(settings, recipe, changes).values()
    ]
    # Equal settings give equal text, however they were written: a cache compares the text.
    return [json.loads(json.dumps(each, sort_keys=True)) for each in planned]


def setting_of(record: Student | Scorecard, settings: Mapping[SettingKey, SweepSetting]) -> SweepSetting:
    """The setting of a student or a scorecard, by its κ and the other values of its recipe.

    Raises:
        InputError: no setting has these.
    """
    rest = _recorded_rest(record)
    for (kappas, values), setting in settings.items():
        # Scorecards did not have the values when settings were guidance alone.
        if kappas == record.kappas and (values == rest if record.recipe_values else not setting.values):
            return setting
    found = "unknown κ" if record.kappas is None else _equation(record.kappas)
    if near := [values for kappas, values in settings if kappas == record.kappas]:
        unlike = min((values ^ rest for values in near), key=len) if rest else {("recipe", "")}
        found += f" with another {', '.join(sorted({name for name, _ in unlike}))}"
    allowed = ", ".join(repr(setting.text) for setting in settings.values())
    raise InputError(f"a student of {found} belongs to no setting of this sweep; its settings are: {allowed}")


def _recorded_rest(record: Student | Scorecard) -> frozenset[tuple[str, str]]:
    """The values of a student's recipe but guidance; empty if they are not known or not a recipe's."""
    try:
        # A value that a record lacks has its default, whatever the recipe of that name has: see `ADDED`.
        return _rest(Recipe(**record.recipe_values))
    except (TypeError, InputError):
        return frozenset()


def _rest(recipe: Recipe) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in recipe.identity.items() if name not in SWEPT)


@contextmanager
def _naming(text: str) -> Iterator[None]:
    """Name the setting in the block's errors."""
    try:
        yield
    except InputError as error:
        raise InputError(f"setting {text!r}: {error}") from error


def _equation(kappas: Kappas) -> str:
    return f"κ1..κ4 = {', '.join(map(_number, kappas))}"


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
