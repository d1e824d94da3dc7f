"""What a pipeline's text parameters mean: the rules that they name or spell."""

from __future__ import annotations

import dataclasses
import json

from sidlsg.errors import InputError, nearest
from sidlsg.prompts.rules import CurationRules
from sidlsg.recipes.recipe import get_recipe
from sidlsg.recipes.table import RECIPES
from sidlsg.registry.rules import GateRules


def curation_rules(text: str) -> CurationRules:
    """The default rules of curation, some replaced by a JSON object such as `{"minimum_score": 5.5}`.

    Raises:
        InputError: the JSON or a value in it cannot be used.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InputError(f"rules {text!r} are not JSON ({error}); give an object such as {{}}") from error
    if not isinstance(given, dict):
        raise InputError(f"rules {text!r} are not a JSON object; give one such as {{}}")
    defaults = dataclasses.asdict(CurationRules())
    for name, value in given.items():
        if name not in defaults:
            raise InputError(
                f"curation has no rule {name!r}{nearest(name, defaults)}; it has: {', '.join(sorted(defaults))}"
            )
        kind = type(defaults[name])
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or isinstance(value, bool):
            raise InputError(f"{name} is {value!r}; it must be of kind {kind.__name__}, like {defaults[name]!r}")
    return CurationRules(**given)


def gate_rules(recipe: str) -> GateRules:
    """The gate that a recipe's students must pass.

    Raises:
        InputError: there is no such recipe, or it has no gate.
    """
    rules = get_recipe(recipe).gate
    if rules is None:
        gated = ", ".join(sorted(name for name, entry in RECIPES.items() if entry.gate is not None))
        raise InputError(
            f"recipe {recipe!r} has no gate: its domain has no protocol that runs here yet; with one: {gated}"
        )
    return rules
