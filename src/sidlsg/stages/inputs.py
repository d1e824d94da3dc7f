"""Turn a request into pipeline parameters, and check values and URIs before anything runs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.evaluate.published import get_protocol
from sidlsg.evaluate.teacher_scores import require_settings
from sidlsg.evaluate.weights import check_judge, read_weights, weight_path
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.registry.address import check_address, check_model_name
from sidlsg.registry.gate_rule_file import read_gate_rules
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes
from sidlsg.runtime.parsing import read_user_text
from sidlsg.stages.run_request import RunRequest, run_store
from sidlsg.storage.files import require_writable, sha256_bytes
from sidlsg.storage.uri import (
    BUNDLED,
    PIN,
    absolute_uri,
    pinned_uri,
    refuse_folder,
    resolve,
    split_list,
    split_pin,
    with_variant,
)
from sidlsg.teacher.folder import check_folder
from sidlsg.teacher.format import DIFFUSERS

LONGEST_TEXT = 6000
"""Maximum characters of a parameter in MLflow, where Kubeflow Pipelines logs the parameters of steps."""
FILES = {"held_out": "a text file of evaluation prompts, one a line", "judge": "the judge's safetensors file"}
"""Inputs that are a single file each."""
FRESH = "fresh"
"""The seed that is derived from the run's id."""
LARGEST_SEED = 2**53 - 1
"""Pipeline parameters are doubles, which represent whole numbers exactly up to this value."""


def curation_rules(text: str) -> CurationRules:
    """The default rules of curation, with overrides from a JSON object such as `{"score.minimum": 5.5}`."""
    return rules_with(parse_changes(text))


def settled_text(given: str, name: str) -> str:
    """The text of a TOML file as given, or the file's URI (which ends in .toml) with its content's digest.

    `name` is the parameter's, for errors.

    Raises:
        InputError: the text is too long, or nothing exists at the URI.
    """
    if _is_uri(given):
        return pinned_uri(given)
    if len(given) > LONGEST_TEXT:
        raise InputError(
            f"{name} is a text of {len(given):,} characters, and {LONGEST_TEXT:,} are allowed; "
            f"give the file's URI instead, such as s3://BUCKET/{name}.toml{PIN}DIGEST"
        )
    return given


def text_of(given: str) -> str:
    """The text that `settled_text` returned, or the content of its URI."""
    return read_user_text(resolve(given)) if _is_uri(given) else given


def _is_uri(given: str) -> bool:
    return "\n" not in given and split_pin(given)[0].endswith(".toml") if given else False


def common_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The parameters of every pipeline; raises InputError if a value or a file cannot be used."""
    check_model_name(request.model_name)
    if not request.tracking_uri and any(sign in str(run_dir) for sign in "?#%"):
        raise InputError(f"run folder {run_dir} has a '?', '#' or '%' in it, which MLflow's address cannot; rename it")
    if request.tracking_uri:
        check_address(request.tracking_uri)
    return {
        "recipe": request.recipe,
        **_located(request),
        "model_name": request.model_name,
        "tracking_uri": request.tracking_uri or run_store(run_dir),
        **_evaluation(request),
    }


def training_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The parameters of every pipeline that trains; raises InputError if a value or a file cannot be used."""
    changes = _with_absolute_images(parse_changes(request.changes))
    recipe = recipe_with_changes(request.recipe, request.changes)
    if recipe.adversarial and not recipe.real_images:
        raise InputError(
            f"recipe {request.recipe!r} has an adversarial term, which needs real images; give them with "
            '--set \'real_images={"source": URI, "licence": TEXT}\''
        )
    parse_seed(str(request.seed), "")
    rules = curation_rules(request.rules)
    if not (math.isfinite(request.embeddings_gb) and request.embeddings_gb >= 0):
        raise InputError(f"embeddings_gb is {request.embeddings_gb}, not a size; give 0 or more")
    return {
        **common_arguments(request, run_dir),
        "changes": changes,
        "seed": str(request.seed),
        "rules": parse_changes(request.rules),
        "prompts": _prompts(request.prompts, rules),
        "embeddings_gb": float(request.embeddings_gb),
        "embeddings_dtype": recipe.text_states,
    }


def _with_absolute_images(changes: dict[str, Any]) -> dict[str, Any]:
    """A recipe's changes, whose source of real images is valid in any working directory."""
    images = changes.get("real_images")
    if not isinstance(images, dict) or not isinstance(source := images.get("source"), str) or not source:
        return changes
    local = "://" not in source and not source.startswith(BUNDLED)
    given = str(Path(source).expanduser().absolute()) if local else source
    return changes | {"real_images": images | {"source": given}}


def gate_text(request: RunRequest) -> str:
    """The text of the request's gate rules file, or its path; empty for the recipe's rules."""
    if request.gate_rules is None:
        return ""
    read_gate_rules(request.gate_rules)  # an error names the file
    return _text_or_path(request.gate_rules)


def _text_or_path(path: Path) -> str:
    """A TOML file's text, or its path if the text is too long for a parameter."""
    text = read_user_text(path)
    return text if len(text) <= LONGEST_TEXT else str(path.expanduser().absolute())


def _prompts(given: str, rules: CurationRules) -> str:
    # Imported here: Polars takes a fifth of a second.
    from sidlsg.prompts.source.batches import check_file
    from sidlsg.prompts.source.files import absolute, find_inputs

    uris = split_list(given, ";")
    for file in find_inputs(uris):
        if file.is_local:
            check_file(Path(file.place), file, rules)
    return ";".join(absolute(uri) for uri in uris)


def _located(request: RunRequest) -> dict[str, str]:
    """The URIs of the inputs of every run, absolute and checked."""
    uris = {name: getattr(request, name) for name in ("held_out", "teacher", "judge", "teacher_layout")}
    uris["teacher"] = with_variant(request.teacher, request.variant)
    for name, what in FILES.items():
        refuse_folder(uris[name], what)
    found = {name: absolute_uri(uri, folder=DIFFUSERS) for name, uri in uris.items() if uri or name != "teacher_layout"}
    check_judge(found["judge"][1])
    teacher = found["teacher"][1]
    if teacher.is_dir():
        check_folder(teacher)
    return {name: found[name][0] if name in found else "" for name in uris}


def _evaluation(request: RunRequest) -> dict[str, str]:
    require_settings(request.teacher_settings)
    kept = request.keep_images
    if kept and "://" not in kept:  # S3 is checked by the step, which may have other credentials
        # Absolute: a stage may run in another working directory.
        kept = str(Path(kept).expanduser().absolute())
        require_writable(Path(kept))
    weights = {} if request.weights is None else read_weights(request.weights)
    # A protocol's missing file would otherwise be reported only after hours of training.
    for file in {file for name in request.protocols for file in get_protocol(name).files}:
        weight_path(weights, file)
    return {
        "protocols": ",".join(request.protocols),
        "weights": "" if request.weights is None else _text_or_path(request.weights),
        "teacher_settings": ";".join(request.teacher_settings),
        "keep_images": kept,
    }


def parse_seed(text: str, pipeline_run: str) -> int:
    """Parse a user's seed: a whole number, or `fresh` to derive one from the run's id.

    Raises:
        InputError: the text is neither.
    """
    if text == FRESH:
        return int(sha256_bytes(pipeline_run.encode())[:13], 16)
    if not re.fullmatch(r"\d{1,16}", text, re.ASCII) or int(text) > LARGEST_SEED:
        raise InputError(f"seed {text!r} given; allowed: a whole number up to 2^53 - 1, or {FRESH!r}")
    return int(text)
