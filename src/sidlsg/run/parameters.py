"""What a pipeline's text parameters mean: the rules that they name or spell."""

from __future__ import annotations

from sidlsg.changes import parse_changes
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.recipes.recipe import get_recipe
from sidlsg.registry.rules import GateRules


def curation_rules(text: str) -> CurationRules:
    """The default rules of curation, some replaced by a JSON object such as `{"score.minimum": 5.5}`.

    Raises:
        InputError: the JSON or a value in it cannot be used.
    """
    return rules_with(parse_changes(text))


def gate_rules(recipe: str) -> GateRules:
    """The gate that a recipe's students must pass.

    Raises:
        InputError: there is no such recipe, or it has no gate.
    """
    return get_recipe(recipe).require_gate()
