"""What a pipeline's text parameters and its steps' environment mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidlsg.changes import parse_changes
from sidlsg.errors import InputError
from sidlsg.package import CHECKPOINTS_VARIABLE, CURATE_VARIABLES
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.recipes.recipe import get_recipe
from sidlsg.registry.rule_file import parse_gate_rules
from sidlsg.registry.rules import GateRules

if TYPE_CHECKING:
    from sidlsg.prompts.curate import Execution


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


def execution_of_step() -> Execution:
    """How a step curates, as its environment says: by default in its own process, in 2 GB.

    Raises:
        InputError: a variable holds no number.
    """
    # Imported here: Polars takes a fifth of a second, and what else is here does without.
    from sidlsg.prompts.curate import Execution

    engine, workers, memory = (os.environ.get(name, "") for name in CURATE_VARIABLES)
    place = os.environ.get(CHECKPOINTS_VARIABLE, "")
    try:
        return Execution(
            engine=engine or "native",
            workers=int(workers or 1),
            memory_gb=float(memory or 2),
            work=f"{place}/curate" if place else "",
        )
    except ValueError as error:
        names = " and ".join(CURATE_VARIABLES[1:])
        raise InputError(f"{names} are {workers!r} and {memory!r}; give numbers") from error
