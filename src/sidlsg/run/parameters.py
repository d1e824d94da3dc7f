"""What a pipeline's text parameters mean: the rules that they name or spell."""

from __future__ import annotations

from sidlsg.changes import parse_changes
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.recipes.recipe import get_recipe
from sidlsg.registry.rule_file import parse_gate_rules
from sidlsg.registry.rules import GateRules


def curation_rules(text: str) -> CurationRules:
    """The default rules of curation, some replaced by a JSON object such as `{"score.minimum": 5.5}`.

    Raises:
        InputError: the JSON or a value in it cannot be used.
    """
    return rules_with(parse_changes(text))


def gate_rules(recipe: str, text: str = "") -> GateRules:
    """The gate that a student must pass: the rules given as the text of a TOML file, else its recipe's.

    Raises:
        InputError: the text is none of rules, or there is no such recipe, or it has no gate.
    """
    if text:
        return parse_gate_rules(text)
    return get_recipe(recipe).require_gate()
