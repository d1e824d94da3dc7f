"""What a request's values and places mean to a pipeline, checked before anything runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.registry.address import check_model_name
from sidlsg.registry.rule_file import parse_gate_rules
from sidlsg.registry.rules import GateRules
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes
from sidlsg.runtime.parsing import read_user_text
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE, CURATE_VARIABLES
from sidlsg.stages.gate import recipe_gate
from sidlsg.storage.files import refuse_inside, require_writable, sha256_bytes
from sidlsg.storage.store import S3
from sidlsg.storage.uri import PIN, open_store, pinned_uri, resolve, split_pin
from sidlsg.teacher.folder import DIFFUSERS

if TYPE_CHECKING:
    from sidlsg.prompts.plan import Execution
import math
from typing import Any

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.evaluate.published import get_protocol
from sidlsg.evaluate.teacher_scores import require_settings
from sidlsg.evaluate.weights import check_judge, read_weights, weight_path
from sidlsg.registry.address import check_address
from sidlsg.registry.rule_file import read_gate_rules
from sidlsg.stages.requests import RunRequest
from sidlsg.storage.uri import absolute_uri, refuse_folder, split_list
from sidlsg.teacher.folder import check_folder


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
    return recipe_gate(recipe)


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
        return pinned_uri(given)
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
    from sidlsg.prompts.plan import Execution

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


FILES = {
    "held_out": "a text file of evaluation prompts, one a line",
    "judge": "the judge's safetensors file",
}
"""Places that are one file each, and what of."""


def common_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The parameters that every pipeline has.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    check_model_name(request.model_name)
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


def training_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
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


def gate_text(request: RunRequest) -> str:
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


def _places(request: RunRequest) -> dict[str, str]:
    places = {name: getattr(request, name) for name in ("held_out", "teacher", "judge", "teacher_layout")}
    for name, what in FILES.items():
        refuse_folder(places[name], what)
    found = {
        name: absolute_uri(place, folder=DIFFUSERS)
        for name, place in places.items()
        if place or name != "teacher_layout"
    }
    check_judge(found["judge"][1])
    teacher = found["teacher"][1]
    if teacher.is_dir():
        check_folder(teacher)
    return {name: found[name][0] if name in found else "" for name in places}


def _evaluation(request: RunRequest) -> dict[str, str]:
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


def parse_seed(text: str, pipeline_run: str) -> int:
    """A seed as users give it: a whole number, or `fresh`.

    A step that is tried again, and a run with the same id, has the same one.

    Raises:
        InputError: it is something else.
    """
    if text == FRESH:
        return int(sha256_bytes(pipeline_run.encode())[:13], 16)
    if not re.fullmatch(r"\d{1,16}", text, re.ASCII) or int(text) > LARGEST_SEED:
        raise InputError(f"seed {text!r} given; allowed: a whole number up to 2^53 - 1, or {FRESH!r}")
    return int(text)


FRESH = "fresh"
"""The seed that follows from the run."""


LARGEST_SEED = 2**53 - 1
"""Parameters of a pipeline travel as doubles, which hold whole numbers up to here."""


def require_keepable(place: str, output: Path | None = None) -> None:
    """Check a place for pictures before any is drawn.

    Args:
        place: a local folder, or `s3://BUCKET/PREFIX`.
        output: a folder that is replaced as a whole at the end.

    Raises:
        InputError: it cannot be used or written to, or lies inside the output.
        StorageError: the S3 server does not answer.
    """
    if place.startswith(S3):
        open_store(place)
        return
    folder = Path(place).expanduser()
    if output is not None:
        refuse_inside(output, keep_images=folder)
    require_writable(folder)
