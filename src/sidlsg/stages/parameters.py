"""What a pipeline's text parameters and its steps' environment mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidlsg.distil.recipes import get_recipe
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.registry.rule_file import parse_gate_rules
from sidlsg.registry.rules import GateRules
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE, CURATE_VARIABLES
from sidlsg.runtime.text_files import read_user_text
from sidlsg.storage.uri import PIN, pinned, resolve, split_pin

if TYPE_CHECKING:
    from sidlsg.prompts.curation import Execution


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


LONGEST_TEXT = 6000
"""Characters of a parameter that MLflow takes, where Kubeflow Pipelines logs the parameters of steps."""


def settled_text(given: str, name: str) -> str:
    """The text of a TOML file as it is given, or the file's place with the digest of its content.

    Args:
        given: a text, or a place that ends in .toml, with or without a digest behind it.
        name: of the parameter, for messages.

    Raises:
        InputError: the text is too long, or there is nothing at the place.
    """
    if _is_place(given):
        return pinned(given)
    if len(given) > LONGEST_TEXT:
        raise InputError(
            f"{name} is a text of {len(given):,} characters, and {LONGEST_TEXT:,} are allowed; "
            f"give the file's place instead, such as s3://BUCKET/{name}.toml{PIN}DIGEST"
        )
    return given


def text_of(given: str) -> str:
    """The text that `settled_text` gave, or that lies at its place.

    Raises:
        InputError: there is nothing at the place, or no text.
    """
    return read_user_text(resolve(given)) if _is_place(given) else given


def _is_place(given: str) -> bool:
    return "\n" not in given and split_pin(given)[0].endswith(".toml") if given else False


def execution_of_step() -> Execution:
    """How a step curates, as its environment says: by default in its own process, in 2 GB.

    Raises:
        InputError: a variable holds no number.
    """
    # Imported here: Polars takes a fifth of a second, and what else is here does without.
    from sidlsg.prompts.curation import Execution

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
