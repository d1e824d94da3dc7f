"""What the nodes are asked to do: the values of a training, and its inputs as places that each node can read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sidlsg.distil import NUMERICS
from sidlsg.distil.recipes import Recipe, recipe_with_changes
from sidlsg.registry.address import SERVERS, check_address, shown
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import EmbeddingSet, FileRef, PromptSet, Record, Student, file_refs
from sidlsg.storage.store import S3
from sidlsg.storage.uri import BUNDLED, PIN, resolve
from sidlsg.teacher.folder import DIFFUSERS, is_about_use, is_loaded

STAGED = "handover:"
"""Starts the place of an input that lies in the handover."""
PROMPTS, EMBEDDINGS = "prompts", "embeddings"
_HASH = 12
"""Digits of a job's name."""


@dataclass(frozen=True, kw_only=True)
class JobSpec(Record):
    """All that a node needs to know."""

    FILE: ClassVar[str] = "order.json"
    recipe: str
    changes: str
    seed: int
    checkpoints: str
    """The folder or prefix in which the run has one of its own."""
    teacher: str
    teacher_layout: str
    held_out: str
    judge: str
    tracking_uri: str
    experiment: str
    prompts_sha256: str
    """Digest of the PromptSet record."""
    inputs: tuple[FileRef, ...]
    """The files in the handover: `prompts/…`, `embeddings/…`, and what else lies on no place that nodes can read."""

    @property
    def values(self) -> Recipe:
        """The recipe with its changes."""
        return recipe_with_changes(self.recipe, self.changes)

    @property
    def training(self) -> str:
        """SHA-256 of what decides which checkpoints are written: two jobs must not write the same at one time."""
        files = {ref.path: ref.sha256 for ref in self.inputs if not ref.path.startswith(f"{EMBEDDINGS}/")}
        parts = [self.values.identity, self.seed, self.checkpoints, self.teacher, self.teacher_layout, files]
        return hashlib.sha256(json.dumps([*parts, NUMERICS], sort_keys=True).encode()).hexdigest()

    def job_name(self, run: str) -> str:
        """The TrainJob's name: the same for the same order of one pipeline run, and no other's."""
        return f"distil-{hashlib.sha256(f'{run}/{self.digest}'.encode()).hexdigest()[:_HASH]}"

    def check(self, student: Student, place: str) -> None:
        """Check that a student is what was ordered.

        Raises:
            InputError: it is another's.
        """
        wanted = json.loads(json.dumps(self.values.values()))
        for what, found, ordered in (
            ("prompt set", student.prompts_sha256, self.prompts_sha256),
            ("seed", student.seed, self.seed),
            ("recipe", student.recipe_values, wanted),
        ):
            if found != ordered:
                raise InputError(f"{place} holds a student of another {what} than was ordered; run the step again")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An order, and the local files that go with it."""

    order: JobSpec
    files: dict[str, Path]
    """By the names that they have in the handover."""


def pack(
    *,
    prompts: Path,
    embeddings: Path | None,
    recipe: str,
    changes: str,
    seed: int,
    checkpoints: str,
    teacher: str,
    teacher_layout: str = "",
    held_out: str = "",
    judge: str = "",
    tracking_uri: str = "",
    experiment: str = "",
) -> Bundle:
    """Check a training's inputs, and say what of them must go to the nodes.

    What is bundled, and what is on S3 with a digest, each node finds by itself. All else goes along.

    Raises:
        InputError: an input cannot be used, or MLflow is where nodes cannot reach it.
    """
    prompt_set = PromptSet.load(prompts)
    prompt_set.verify(prompts)
    files = _record_files(PROMPTS, prompts, prompt_set)
    if embeddings is not None:
        states = EmbeddingSet.load(embeddings)
        states.verify(embeddings)
        files |= _record_files(EMBEDDINGS, embeddings, states)
    if tracking_uri and not tracking_uri.startswith(SERVERS):
        raise InputError(
            f"MLflow is {shown(tracking_uri)}, which other nodes cannot reach; give http(s)://HOST, or none"
        )
    if tracking_uri:
        check_address(tracking_uri)
    recipe_with_changes(recipe, changes)
    places = {
        "teacher": _handed("teacher", teacher, files),
        "teacher_layout": _handed("teacher_layout", teacher_layout, files),
        "held_out": _handed("held_out", held_out, files),
        "judge": _handed("judge", judge, files),
    }
    refs = tuple(FileRef(path=name, sha256=sha256_file(path)) for name, path in sorted(files.items()))
    order = JobSpec(
        recipe=recipe,
        changes=changes,
        seed=seed,
        checkpoints=checkpoints.rstrip("/"),
        **places,
        tracking_uri=tracking_uri,
        experiment=experiment,
        prompts_sha256=prompt_set.digest,
        inputs=refs,
    )
    return Bundle(order=order, files=files)


def _record_files(name: str, folder: Path, record: Record) -> dict[str, Path]:
    refs = [ref.path for ref in file_refs(record) if "://" not in ref.path]
    return {f"{name}/{path}": folder / path for path in [record.FILE, *refs]}


def _handed(name: str, place: str, files: dict[str, Path]) -> str:
    """A place that a node can resolve; what lies on this machine alone is added to the files."""
    if not place:
        return ""
    if place.startswith((S3, BUNDLED)):
        if PIN not in place and place.startswith(S3):
            resolve(place, folder=DIFFUSERS)  # says that it needs a digest
        return place
    path = resolve(place, folder=DIFFUSERS)
    if path.is_file():
        files[f"{name}/{path.name}"] = path
        return f"{STAGED}{name}/{path.name}"
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        inner = file.relative_to(path).as_posix()
        # What a diffusers folder is made of; checkpoints and pickles of the same model may lie beside it.
        if is_loaded(inner) or is_about_use(inner):
            files[f"{name}/{inner}"] = file
    return f"{STAGED}{name}"
