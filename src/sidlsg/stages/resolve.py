"""The first step of a pipeline: computes its inputs' digests, so that cached steps run again after a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sidlsg import __version__, distil, evaluate, prompts, teacher
from sidlsg.distil.recipes import RECIPES, recipe_with_changes
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.files import sources_state
from sidlsg.real_images.source import settled_source
from sidlsg.runtime.overrides import changes_text
from sidlsg.runtime.progress import note
from sidlsg.stages.inputs import parse_seed, settled_text
from sidlsg.storage.files import sha256_bytes, sha256_files
from sidlsg.storage.uri import pinned_uri, resolve, split_list, split_pin
from sidlsg.teacher.format import DIFFUSERS


class Resolved(NamedTuple):
    """Inputs of the cached steps, with digests because a URI's content may change; in the order of the outputs."""

    prompts_state: str
    """Digest of the prompts' tables; empty if there are no tables."""
    held_out: str
    """URIs with the digest of their content; empty if not given. The same for `teacher` and `judge`."""
    teacher: str
    judge: str
    weights: str
    """The text as given, or the URI with the digest of its content; see `sidlsg.stages.inputs.settled_text`."""
    gate_rules: str
    real_images: str
    """Source, state and licence of the recipe's real images as JSON; empty if it has none."""
    results_version: str
    """Digest of everything else that affects results: this package's versions, and a single-file teacher's layout."""
    seed: int
    digest: str
    """Digest of all these values: equal for two runs with the same inputs."""


def resolve_step(
    *,
    prompts: str,
    teacher_model: Path,
    held_out_captions: Path,
    judge_model: Path,
    **inputs: Any,
) -> tuple[Resolved, dict[str, dict[str, str]]]:
    """Resolve a run's inputs and write three URIs to files; also return these artifacts' metadata, by input.

    The files hold URIs rather than the content, which Kubeflow would download into each step that reads the artifact.
    """
    found = resolve_inputs(prompts=split_list(prompts, ";"), **inputs)
    metadata = {}
    for name, file in (("teacher", teacher_model), ("held_out", held_out_captions), ("judge", judge_model)):
        uri = getattr(found, name)
        file.write_text(uri)
        metadata[name] = dict(zip(("place", "sha256"), split_pin(uri), strict=True))
    note(f"inputs {found.digest[:16]}, seed {found.seed}")
    return found, metadata


def resolve_inputs(
    *,
    prompts: Sequence[str],
    held_out: str,
    teacher: str,
    teacher_layout: str,
    judge: str,
    weights: str,
    gate_rules: str,
    recipe: str,
    changes: Mapping[str, Any],
    seed: str,
    pipeline_run: str,
) -> Resolved:
    """Compute the digest of every input whose content may change under the same URI; empty inputs were not given.

    Files on this machine are read. For tables on S3, size and ETag are requested; other S3 URIs must have their digest.

    Raises:
        InputError: an input is missing or cannot be used, or the seed is invalid.
        StorageError: the S3 server did not answer.
    """
    versions = results_version()
    if teacher_layout:
        folder = resolve(teacher_layout, folder=DIFFUSERS)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        versions = sha256_bytes(f"{versions}\n{sha256_files(folder, files)}".encode())
    uris = {"held_out": held_out, "teacher": teacher, "judge": judge}
    found = {
        "prompts_state": sources_state(prompts) if prompts else "",
        **{name: pinned_uri(uri, folder=DIFFUSERS) if uri else "" for name, uri in uris.items()},
        "weights": settled_text(weights, "weights"),
        "gate_rules": settled_text(gate_rules, "gate_rules"),
        "real_images": settled_source(recipe_with_changes(recipe, changes_text(changes)).real_images),
        "results_version": versions,
    }
    number = parse_seed(seed, pipeline_run)
    # As before there were real images, where there are none.
    named = {name: value for name, value in found.items() if value or name != "real_images"}
    digest = sha256_bytes(json.dumps([named, number], sort_keys=True).encode())
    return Resolved(**found, seed=number, digest=digest)


def results_version() -> str:
    """SHA-256 of everything in the package that affects results; part of the cache key of pipeline steps.

    It covers the package's version, the declared versions of each stage's numerics (`NUMERICS`), and the values that
    stages look up by name: recipes and the default rules of curation.
    """
    numerics = {"prompts": prompts.NUMERICS, "encode": teacher.NUMERICS, "distil": distil.NUMERICS}
    numerics |= {f"evaluate {name}": version for name, version in evaluate.NUMERICS.items()}
    recipes = {name: recipe.digest for name, recipe in RECIPES.items()}
    parts = [__version__, numerics, recipes, CurationRules().digest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
