"""The stages' contracts: each stage reads one record and writes one, as JSON beside the files it speaks of."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import atomic_write, sha256_file


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """A file by place and content."""

    path: str
    """Relative to the record's own folder, or a full `s3://` URI."""
    sha256: str


def file_ref(path: Path, folder: Path) -> FileRef:
    """Refer to a file inside a record's folder."""
    return FileRef(path=path.relative_to(folder).as_posix(), sha256=sha256_file(path))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record can do."""

    FILE: ClassVar[str]
    """The name of the JSON file that holds a record of this kind."""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, so that equal records have equal text."""
        plain = TypeAdapter(type(self)).dump_python(self, mode="json")
        return json.dumps(plain, sort_keys=True, indent=2) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: the record's identity."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, folder: Path) -> Path:
        """Write the record to its file in `folder` and return that file."""
        path = folder / self.FILE
        atomic_write(path, self.to_json())
        return path

    @classmethod
    def from_json(cls, text: str, source: str = "the given text") -> Self:
        """Read a record.

        Raises:
            InputError: the text is not a record of this kind.
        """
        try:
            record = TypeAdapter(cls).validate_json(text, strict=False)
            parse_json(text)  # its bounds
            return record
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise InputError(f"{source} is not a {cls.__name__} record: {where}: {first['msg']}") from error
        except ValueError as error:
            raise InputError(f"{source} is not a {cls.__name__} record: {error}") from error

    @classmethod
    def load(cls, place: Path) -> Self:
        """Read a record from its folder or its file.

        Raises:
            InputError: there is none, or it is of another kind.
        """
        path = place / cls.FILE if place.is_dir() else place
        if not path.is_file():
            raise InputError(f"no {cls.__name__} record at {path}; give the folder that the earlier stage wrote")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not a {cls.__name__} record: it is not UTF-8 text") from error
        return cls.from_json(text, str(path))

    def verify(self, folder: Path) -> None:
        """Check every file that the record speaks of against its digest.

        Raises:
            InputError: a file is missing or differs.
        """
        self.verify_files(folder, file_refs(self))

    def verify_files(self, folder: Path, files: Iterable[FileRef]) -> None:
        """Check some of the files that the record speaks of.

        Raises:
            InputError: a file is missing or differs.
        """
        for ref in files:
            if "://" in ref.path:
                continue
            path = folder / ref.path
            if not path.is_file():
                raise InputError(f"{path} is missing, though {self.FILE} names it; run the stage that wrote it again")
            found = sha256_file(path)
            if found != ref.sha256:
                raise InputError(
                    f"{path} has SHA-256 {found[:16]}…, but {self.FILE} says {ref.sha256[:16]}…: "
                    "it was changed or damaged; run the stage that wrote it again"
                )


def file_refs(value: Any) -> list[FileRef]:
    """Every `FileRef` inside a record, in order."""
    if isinstance(value, FileRef):
        return [value]
    if isinstance(value, tuple | list):
        return [ref for item in value for ref in file_refs(item)]
    if is_dataclass(value):
        return [ref for field in fields(value) for ref in file_refs(getattr(value, field.name))]
    return []


@dataclass(frozen=True, kw_only=True)
class FunnelStep:
    """How many rows one curation step let through."""

    name: str
    rows_in: NonNegativeInt
    rows_out: NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class PromptSet(Record):
    """Curated prompts in a stable order: parquet shards with the columns `id`, `text`, `tokens`, `score`, `source`."""

    FILE: ClassVar[str] = "prompt_set.json"
    source_sha256: str
    """Digest of the file that the prompts came from; of several files, that of their sorted digests."""
    rules_sha256: str
    """Digest of the rules that selected them, with the words that they list."""
    held_out_sha256: str
    """Digest of the list of evaluation prompts that were removed."""
    minimum_score: float | None = None
    """The cut that this set is, of a set with more prompts; None for the whole one."""
    count: NonNegativeInt
    shards: tuple[FileRef, ...]
    funnel: tuple[FunnelStep, ...]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSet(Record):
    """The text states of a prompt set in safetensors shards, or the decision to make them during training."""

    FILE: ClassVar[str] = "embedding_set.json"
    prompts_sha256: str
    """Digest of the PromptSet record."""
    text_encoder_sha256: str
    """Digest of the teacher's text encoder and tokenizer."""
    dtype: str
    """`float16` or `float32`: of the states."""
    count: NonNegativeInt
    """How many prompts."""
    shape: tuple[int, int]
    """(L, D): tokens and width of one prompt's states."""
    shards: tuple[FileRef, ...]
    """One a block of prompts, in their order; none where states are made during training."""
    uncond: FileRef | None
    """The empty prompt's states; None where there are no shards."""


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Under which terms a model may be used, as its own folder says."""

    name: str = ""
    """The card's `license`, such as `creativeml-openrail-m`; empty where the card says nothing."""
    link: str = ""
    """The card's `license_link`."""
    files: tuple[FileRef, ...] = ()
    """The card and the texts of licence and use restrictions."""


LINEAGE = "lineage"
"""The folder in a student's that holds the records it came from."""


@dataclass(frozen=True, kw_only=True)
class Student(Record):
    """A distilled one-step generator: a diffusers folder with this record in it."""

    FILE: ClassVar[str] = "student.json"
    recipe: str
    """Name of the recipe."""
    recipe_values: dict[str, Any]
    """Every value of the recipe as it ran, overrides included."""
    strategy: str
    kappas: tuple[float, float, float, float]
    teacher_sha256: str
    """Digest of the teacher's model files."""
    prompts_sha256: str
    """Digest of the PromptSet record."""
    package_sha256: str
    """Digest of the code that ran."""
    seed: int
    t_init: int
    iterations: NonNegativeInt
    images_seen: NonNegativeInt
    nan_samples: NonNegativeInt
    """How many samples were left out of a loss because they held NaN."""
    seconds: float
    """Wall-clock seconds of training, restarts added up."""
    hardware: str
    model: tuple[FileRef, ...]
    """The files that `StableDiffusionPipeline.from_pretrained` reads."""
    training_log: FileRef
    """JSON lines: one row a logged iteration."""
    evaluations: FileRef | None = None
    """JSON lines: scores of the EMA along the way, one row an evaluation; None where there were none."""
    grids: tuple[FileRef, ...]
    """Sample grids of the EMA from fixed noises, `grids/<images seen>.png`, in order."""
    licence: Licence = Licence()
    """The teacher's, which holds for the student too."""
    lineage: tuple[FileRef, ...] = ()
    """The records that it was made from: of the prompt set, and of its text states where they were encoded before."""
    git_commit: str = ""
    """Of the code that ran, with `+changes` where files differed from it; empty where that is not known."""
    image: str = ""
    """The container image that it ran in, by digest; empty outside of a pipeline on a cluster."""

    @property
    def account(self) -> tuple[FileRef, ...]:
        """Training log, interim scores and sample grids."""
        scores = () if self.evaluations is None else (self.evaluations,)
        return (self.training_log, *scores, *self.grids)

    def verify(self, folder: Path) -> None:
        """Check every file that the record speaks of, and that the model's folders hold no other.

        A library that loads the model would load another file as well: an index of weights, or weights in shards.

        Raises:
            InputError: a file is missing, differs, or is not named in the record.
        """
        super().verify(folder)
        named = {ref.path for ref in self.model}
        for part in sorted({Path(name).parts[0] for name in named if "/" in name}):
            for path in sorted((folder / part).rglob("*")):
                name = path.relative_to(folder)
                hidden = any(each.startswith(".") for each in name.parts)
                if path.is_dir() or hidden or name.as_posix() in named:
                    continue
                raise InputError(
                    f"{path} is not of this student ({self.FILE} does not name it), and would be loaded with it; "
                    "move it elsewhere"
                )

    def copy_account(self, folder: Path, target: Path) -> None:
        """Copy a student's records, training log, interim scores and sample grids, without its networks."""
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / self.FILE, target / self.FILE)
        prompts = self.prompt_set(folder)
        if prompts is not None:
            prompts.save(target)
        for ref in self.account:
            if "://" in ref.path:
                continue
            (target / ref.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / ref.path, target / ref.path)

    def prompt_set(self, folder: Path) -> PromptSet | None:
        """The record of its prompt set; None where it has none, as a converted student.

        Raises:
            InputError: what lies there is of another prompt set.
        """
        path = f"{LINEAGE}/{PromptSet.FILE}"
        if path not in [ref.path for ref in self.lineage]:
            return None
        found = PromptSet.load(folder / path)
        if found.digest != self.prompts_sha256:
            raise InputError(
                f"{folder / path} is of prompt set {found.digest[:16]}, but the student of {self.prompts_sha256[:16]}; "
                "run the distil stage again"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class ModelVersion(Record):
    """A student in the model registry."""

    FILE: ClassVar[str] = "model_version.json"
    name: str
    version: int
    run_id: str
    student_sha256: str
    """Digest of the Student record that it was registered from."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with everything that makes it comparable."""

    name: str
    value: float
    protocol: str
    n: NonNegativeInt
    """How many images it was computed on."""
    reference_digest: str
    """Digest of the reference images' or prompts' definition."""
    higher_is_better: bool
    interval: tuple[float, float] | None = None
    """A 95 % interval where the protocol gives one."""

    @property
    def metric(self) -> str:
        """Its name and protocol as one metric's name, as MLflow and Kubeflow take it."""
        return re.sub(r"[^\w\-. :/]", "-", f"{self.name} {self.protocol}", flags=re.ASCII)

    def require_comparable(self, other: Score) -> None:
        """Refuse a comparison that would mean nothing.

        Raises:
            InputError: protocol, count or reference differ.
        """
        for field in ("name", "protocol", "n", "reference_digest"):
            ours, theirs = getattr(self, field), getattr(other, field)
            if ours != theirs:
                raise InputError(f"scores of unlike {field} do not compare: {ours} and {theirs}; evaluate both alike")

    def better_by(self, other: Score) -> float:
        """How much better this score is than `other`: positive is better, whichever way the score runs."""
        self.require_comparable(other)
        return self.value - other.value if self.higher_is_better else other.value - self.value


@dataclass(frozen=True, kw_only=True)
class StyleMean:
    """One style's row of HPSv2's table."""

    protocol: str
    style: str
    mean: float
    """Over all images of the style."""
    deviation: float
    """Standard deviation of the means of ten groups of consecutive prompts."""


@dataclass(frozen=True, kw_only=True)
class SubjectScores:
    """All scores of one generator under one way of sampling it."""

    subject: str
    """`student 1 step`, `teacher 20 steps`, `real images`, …"""
    steps: NonNegativeInt
    guidance_scale: float
    scores: tuple[Score, ...]
    styles: tuple[StyleMean, ...] = ()
    """HPSv2 by style; none where it was not measured."""

    def score(self, name: str) -> Score:
        """The score of that name.

        Raises:
            InputError: there is none.
        """
        for score in self.scores:
            if score.name == name:
                return score
        raise InputError(f"{self.subject} has no score {name!r}; it has: {', '.join(s.name for s in self.scores)}")


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """One of the images that fit their prompts best, or worst."""

    prompt: str
    seed: int
    value: float
    measure: str
    """What `value` is, in words; higher is better."""
    best: bool
    picture: FileRef


@dataclass(frozen=True, kw_only=True)
class Scorecard(Record):
    """What evaluation found for a student, and for its teacher under the same protocols."""

    FILE: ClassVar[str] = "scorecard.json"
    student_sha256: str
    teacher_sha256: str
    package_sha256: str
    recipe: str = ""
    """The student's, as are the next three: what its row is named by beside other students'. Empty if not known."""
    strategy: str = ""
    kappas: tuple[float, float, float, float] | None = None
    images_seen: NonNegativeInt | None = None
    subjects: tuple[SubjectScores, ...]
    grids: tuple[FileRef, ...]
    """One grid a subject, of the same prompts and noises: `grids/<subject>.png`."""
    grid_prompts: tuple[str, ...]
    extremes: tuple[Extreme, ...] = ()
    """Of the student: the best first, then the worst first."""
    reused: tuple[str, ...]
    """Subjects whose scores came from the teacher's own scorecard."""
    seconds: float

    def subject(self, name: str) -> SubjectScores:
        """The scores of that subject.

        Raises:
            InputError: there is none.
        """
        for subject in self.subjects:
            if subject.subject == name:
                return subject
        raise InputError(f"no subject {name!r} on the scorecard; it has: {', '.join(s.subject for s in self.subjects)}")


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """One rule of the gate, applied."""

    rule: str
    """What is demanded, in words with the number in it."""
    found: str
    """What was found, in words with the number in it."""
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """Whether a model version may become the champion, and why."""

    FILE: ClassVar[str] = "verdict.json"
    name: str
    version: int
    champion_version: int | None
    """The champion that it was compared with."""
    scorecard_sha256: str
    rules_sha256: str
    passed: bool
    rules: tuple[RuleResult, ...]


@dataclass(frozen=True, kw_only=True)
class Promotion(Record):
    """Which version the champion's alias points to after a run."""

    FILE: ClassVar[str] = "promotion.json"
    name: str
    champion_version: int | None
    previous_version: int | None
    changed: bool
    """Whether this run moved the alias."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A result that others published for these values; never compared with scores of another protocol."""

    source: str
    images_seen: float
    fid: float
    clip: float
    protocol: str = "fid/coco2014-30k-clean"
