"""A multi-node job's spec: the values of a training, and its inputs as URIs that each node can read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar

from sidlsg.distil import NUMERICS
from sidlsg.distil.recipes import Recipe, recipe_with_changes
from sidlsg.registry.address import SERVERS, check_address, shown
from sidlsg.runtime.errors import InputError
from sidlsg.stages.training import PodTraining
from sidlsg.storage.files import sha256_file
from sidlsg.storage.real_image_set import RealImageSet, real_images_beside
from sidlsg.storage.records import EmbeddingSet, FileRef, PromptSet, Record, Student, file_refs
from sidlsg.storage.store import S3
from sidlsg.storage.uri import BUNDLED, PIN, resolve
from sidlsg.teacher.folder import is_wanted
from sidlsg.teacher.format import DIFFUSERS

STAGED = "handover:"
"""Starts the URI of an input in the staging area."""
PROMPTS, EMBEDDINGS = "prompts", "embeddings"
_REAL_IMAGES = f"{EMBEDDINGS}/{RealImageSet.FOLDER}"


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
    """The staged files: `prompts/…`, `embeddings/…`, and inputs at paths that nodes cannot read."""

    @property
    def values(self) -> Recipe:
        """The recipe with its changes."""
        return recipe_with_changes(self.recipe, self.changes)

    @property
    def training(self) -> str:
        """SHA-256 of all that the checkpoints depend on: two jobs must not write the same ones at the same time."""
        files = {ref.path: ref.sha256 for ref in self.inputs if not _follows_from_others(ref.path)}
        parts = [self.values.identity, self.seed, self.checkpoints, self.teacher, self.teacher_layout, files]
        return hashlib.sha256(json.dumps([*parts, NUMERICS], sort_keys=True).encode()).hexdigest()

    def job_name(self, run: str) -> str:
        """The TrainJob's name, unique to this spec in this pipeline run."""
        return f"distil-{hashlib.sha256(f'{run}/{self.digest}'.encode()).hexdigest()[:12]}"

    def check(self, student: Student, source: str) -> None:
        """Check that a student is the one that this spec describes.

        Raises:
            InputError: it is another.
        """
        recipe = json.loads(json.dumps(self.values.values()))
        for what, found, expected in (
            ("prompt set", student.prompts_sha256, self.prompts_sha256),
            ("seed", student.seed, self.seed),
            ("recipe", student.recipe_values, recipe),
        ):
            if found != expected:
                raise InputError(f"{source} holds a student of another {what} than the job spec's; run the step again")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A job spec with its local files."""

    spec: JobSpec
    files: dict[str, Path]
    """By their names in `JobSpec.inputs`."""


def pack(training: PodTraining) -> Bundle:
    """Check a training's inputs, and collect the files that the nodes cannot read by themselves.

    Nodes read bundled inputs, and those on S3 with a digest. All others are staged.

    Raises:
        InputError: an input cannot be used, or nodes cannot reach MLflow.
    """
    if address := training.tracking_uri:
        if not address.startswith(SERVERS):
            raise InputError(
                f"MLflow is {shown(address)}, which other nodes cannot reach; give http(s)://HOST, or none"
            )
        check_address(address)
    recipe_with_changes(training.recipe, training.changes)
    prompt_set = PromptSet.load(Path(training.prompts))
    files = _record_files(PROMPTS, Path(training.prompts), prompt_set)
    if training.embeddings:
        embeddings = Path(training.embeddings)
        files |= _record_files(EMBEDDINGS, embeddings, EmbeddingSet.load(embeddings))
        if images := real_images_beside(training.embeddings):
            files |= _record_files(_REAL_IMAGES, images, RealImageSet.load(images))
            for name, kind in ((RealImageSet.CAPTIONS, PromptSet), (RealImageSet.EMBEDDINGS, EmbeddingSet)):
                files |= _record_files(f"{_REAL_IMAGES}/{name}", images / name, kind.load(images / name))
    own = {field.name for field in fields(JobSpec)}
    values = {name: value for name, value in asdict(training).items() if name in own}
    staged = {name: _staged(name, values[name], files) for name in ("teacher", "teacher_layout", "held_out", "judge")}
    spec = JobSpec(
        **(values | staged | {"checkpoints": training.checkpoints.rstrip("/")}),
        prompts_sha256=prompt_set.digest,
        # After the inputs above, which add to the files.
        inputs=tuple(FileRef(path=name, sha256=sha256_file(path)) for name, path in sorted(files.items())),
    )
    return Bundle(spec=spec, files=files)


def _follows_from_others(path: str) -> bool:
    """Whether a staged file follows from the others, as text embeddings do; real images do not."""
    images = f"{_REAL_IMAGES}/"
    inner = path.removeprefix(images) if path.startswith(images) else path
    return inner.startswith(f"{EMBEDDINGS}/")


def _record_files(name: str, folder: Path, record: Record) -> dict[str, Path]:
    record.verify(folder)
    refs = [ref.path for ref in file_refs(record) if "://" not in ref.path]
    return {f"{name}/{path}": folder / path for path in [record.FILE, *refs]}


def _staged(name: str, uri: str, files: dict[str, Path]) -> str:
    """A URI that a node can resolve; local files are added to `files`."""
    if not uri or uri.startswith(BUNDLED) or (uri.startswith(S3) and PIN in uri):
        return uri
    path = resolve(uri, folder=DIFFUSERS)  # raises for S3 without a digest
    if path.is_file():
        files[f"{name}/{path.name}"] = path
        return f"{STAGED}{name}/{path.name}"
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        inner = file.relative_to(path).as_posix()
        # Only the files of a diffusers folder: it may also hold checkpoints and pickles of the same model.
        if is_wanted(inner):
            files[f"{name}/{inner}"] = file
    return f"{STAGED}{name}"
