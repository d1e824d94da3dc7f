"""What a request's values and places mean to a pipeline, checked before anything runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.evaluate.judge_file import check_judge
from sidlsg.evaluate.keep import require_keepable
from sidlsg.evaluate.published import get_protocol
from sidlsg.evaluate.teacher_scores import require_settings
from sidlsg.evaluate.weights import read_weights, weight_path
from sidlsg.prompts.rules import CurationRules
from sidlsg.registry.address import check_address
from sidlsg.registry.names import check_name
from sidlsg.registry.rule_file import read_gate_rules
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes
from sidlsg.runtime.text_files import read_user_text
from sidlsg.stages.parameters import LONGEST_TEXT, curation_rules
from sidlsg.stages.requests import EvaluateRequest, Request, RunRequest, TrainingRequest
from sidlsg.stages.resolve import parse_seed
from sidlsg.storage.uri import located, refuse_folder, split_list
from sidlsg.teacher.folder import check_folder

FILES = {
    "held_out": "a text file of evaluation prompts, one a line",
    "judge": "the judge's safetensors file",
}
"""Places that are one file each, and what of."""


def common_arguments(request: Request, run_dir: Path) -> dict[str, Any]:
    """The parameters that every pipeline has.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    check_name(request.model_name)
    if not request.tracking_uri and any(sign in str(run_dir) for sign in "?#%"):
        raise InputError(f"run folder {run_dir} has a '?', '#' or '%' in it, which MLflow's address cannot; rename it")
    if request.tracking_uri:
        check_address(request.tracking_uri)
    return {
        "recipe": request.recipe,
        **_places(request),
        "model_name": request.model_name,
        "tracking_uri": request.tracking_uri or f"sqlite:///{run_dir / 'mlflow' / 'mlflow.db'}",
        **_evaluation(request),
    }


def training_arguments(request: TrainingRequest, run_dir: Path) -> dict[str, Any]:
    """The parameters that every pipeline has which trains.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    recipe = recipe_with_changes(request.recipe, request.changes)
    parse_seed(str(request.seed), "")
    rules = curation_rules(request.rules)
    if not (math.isfinite(request.embeddings_gb) and request.embeddings_gb >= 0):
        raise InputError(f"embeddings_gb is {request.embeddings_gb}, not a size; give 0 or more")
    common = common_arguments(request, run_dir)
    return {
        **common,
        "changes": parse_changes(request.changes),
        "seed": str(request.seed),
        "rules": parse_changes(request.rules),
        "prompts": _prompts(request.prompts, rules),
        "embeddings_gb": float(request.embeddings_gb),
        "embeddings_dtype": recipe.text_states,
    }


def gate_text(request: RunRequest | EvaluateRequest) -> str:
    """The text of the request's file of gate rules; empty for the recipe's.

    Raises:
        InputError: the file cannot be read.
    """
    if request.gate_rules is None:
        return ""
    # What is wrong with it is told with its name.
    read_gate_rules(request.gate_rules)
    return _text_or_place(request.gate_rules)


def _text_or_place(path: Path) -> str:
    """A TOML file's text; where that is too long for a parameter, where it is."""
    text = read_user_text(path)
    return text if len(text) <= LONGEST_TEXT else str(path.expanduser().absolute())


def _prompts(given: str, rules: CurationRules) -> str:
    # Imported here: Polars takes a fifth of a second.
    from sidlsg.prompts.source.batches import check_file
    from sidlsg.prompts.source.files import absolute, find_inputs

    places = split_list(given, ";")
    for file in find_inputs(places):
        if file.is_local:
            check_file(Path(file.place), file, rules)
    return ";".join(absolute(place) for place in places)


def _places(request: Request) -> dict[str, str]:
    places = {name: getattr(request, name) for name in ("held_out", "teacher", "judge", "teacher_layout")}
    for name, what in FILES.items():
        refuse_folder(places[name], what)
    found = {name: located(place) for name, place in places.items() if place or name != "teacher_layout"}
    check_judge(found["judge"][1])
    teacher = found["teacher"][1]
    if teacher.is_dir():
        check_folder(teacher)
    return {name: found[name][0] if name in found else "" for name in places}


def _evaluation(request: Request) -> dict[str, str]:
    require_settings(request.teacher_settings)
    # What lies on S3 is the stage's to reach.
    if request.keep_images and "://" not in request.keep_images:
        require_keepable(request.keep_images)
    named = {} if request.weights is None else read_weights(request.weights)
    # What a protocol lacks would be told after hours of training else.
    for file in {file for name in request.protocols for file in get_protocol(name).files}:
        weight_path(named, file)
    kept = request.keep_images
    return {
        "protocols": ",".join(request.protocols),
        "weights": "" if request.weights is None else _text_or_place(request.weights),
        "teacher_settings": ";".join(request.teacher_settings),
        # A stage may run in another folder than this one.
        "keep_images": kept if not kept or "://" in kept else str(Path(kept).expanduser().absolute()),
    }
