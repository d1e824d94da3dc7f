"""The first step of a pipeline: what its inputs hold now, so that a cached step runs again when one has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sidlsg import __version__, distil, evaluate, prompts, teacher
from sidlsg.distil.recipes import RECIPES
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.files import sources_state
from sidlsg.runtime.progress import note
from sidlsg.stages.inputs import parse_seed, settled_text
from sidlsg.storage.files import sha256_bytes, sha256_files
from sidlsg.storage.uri import pinned_uri, resolve, split_list, split_pin
from sidlsg.teacher.folder import DIFFUSERS


class Resolved(NamedTuple):
    """What the cached steps get instead of URIs whose content may change, in the order of the component's outputs."""

    prompts_state: str
    """Digest of the prompts' tables; empty where there are none."""
    held_out: str
    """URIs with the digest of their content; empty where none was given."""
    teacher: str
    judge: str
    weights: str
    """As given, a URI with the digest of its content; see `sidlsg.stages.inputs.settled_text`."""
    gate_rules: str
    results_version: str
    """Digest of what else decides results: this package's versions, and the small files of a teacher in one file."""
    seed: int
    digest: str
    """Of all of it: the same for two runs that differ in no input."""


def resolve_step(
    *, prompts: str, teacher_model: Path, held_out_captions: Path, judge_model: Path, **inputs: str
) -> tuple[Resolved, dict[str, dict[str, str]]]:
    """Resolve a run's inputs, and write the URIs of three to files; also gives these artifacts' metadata, by input.

    URIs, and not the content: Kubeflow would download that into each step that reads the artifact.
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
    seed: str,
    pipeline_run: str,
) -> Resolved:
    """Look at every input of a run whose content may change under the same name; empty ones were not given.

    Files on this machine are read; of tables on S3, size and ETag are asked for; other URIs on S3 come with their
    digest.

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
        "results_version": versions,
    }
    number = parse_seed(seed, pipeline_run)
    digest = sha256_bytes(json.dumps([found, number], sort_keys=True).encode())
    return Resolved(**found, seed=number, digest=digest)


def results_version() -> str:
    """SHA-256 over everything in the package that decides results: a pipeline's cache takes earlier ones by it.

    That is the package's version, the declared versions of what each stage computes (`NUMERICS`), and the values that
    stages look up by name: the recipes' and the default rules of curation.
    """
    numerics = {"prompts": prompts.NUMERICS, "encode": teacher.NUMERICS, "distil": distil.NUMERICS}
    numerics |= {f"evaluate {name}": version for name, version in evaluate.NUMERICS.items()}
    recipes = {name: recipe.digest for name, recipe in RECIPES.items()}
    parts = [__version__, numerics, recipes, CurationRules().digest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
