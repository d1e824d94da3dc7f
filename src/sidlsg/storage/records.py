"""The records that stages read and write, as JSON next to the files that they name.

A field `…_sha256` is the digest of a record of that name, of the teacher's model files, or of the code that ran.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.validation import first_mistake
from sidlsg.storage.files import atomic_write, folder_below, sha256_file


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """A file by path and content."""

    path: str
    """Relative to the record's own folder and below it, or a full `s3://` URI."""
    sha256: str

    def __post_init__(self) -> None:
        """Raises ValueError for a path that leaves the folder."""
        if "://" not in self.path and (self.path.startswith("/") or ".." in self.path.split("/")):
            raise ValueError(f"the path {self.path!r} leaves the record's folder")


def file_ref(path: Path, folder: Path) -> FileRef:
    """Refer to a file inside a record's folder."""
    return FileRef(path=path.relative_to(folder).as_posix(), sha256=sha256_file(path))


@dataclass(frozen=True, kw_only=True)
class Record:
    """A frozen dataclass that is stored as a JSON file named `FILE`."""

    FILE: ClassVar[str]
    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields that such records did not have at first: left out of the JSON if empty, so that old digests hold."""

    @classmethod
    @cache
    def _form(cls) -> TypeAdapter[Any]:
        """Takes milliseconds to make."""
        return TypeAdapter(cls)

    def to_json(self) -> str:
        """Canonical JSON: equal records have equal text."""
        plain = self._form().dump_python(self, mode="json")
        plain = {name: value for name, value in plain.items() if value or name not in self.ADDED}
        return json.dumps(plain, sort_keys=True, indent=2) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, folder: Path) -> Path:
        """Write the record into a folder, and return its file."""
        path = folder / self.FILE
        atomic_write(path, self.to_json())
        return path

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "the given text") -> Self:
        """Read a record; raises InputError for any other text."""
        try:
            parse_json(text)  # its bounds
            record: Self = cls._form().validate_json(text, strict=False)
        except ValueError as error:  # pydantic's own too
            wrong = first_mistake(error, "the whole") if isinstance(error, ValidationError) else error
            raise InputError(f"{source} is not a {cls.__name__} record: {wrong}") from error
        return record

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record from its folder or its file; raises InputError where there is none of this kind."""
        file = path / cls.FILE if path.is_dir() else path
        if not file.is_file():
            advice = folder_below(path, cls.FILE) or "give the folder that the earlier stage wrote"
            raise InputError(f"no {cls.__name__} record at {file}; {advice}")
        return cls.from_json(file.read_bytes(), str(file))

    def verify(self, folder: Path) -> None:
        """Check every file of the record against its digest; raises InputError where one is missing or differs."""
        self.verify_files(folder, file_refs(self))

    def verify_files(self, folder: Path, files: Iterable[FileRef]) -> None:
        """`verify` for some of the record's files; those with a full URI are not checked."""
        for ref in files:
            if "://" in ref.path:
                continue
            path = folder / ref.path
            if not path.is_file():
                advice = folder_below(folder, self.FILE) or "run the stage that wrote it again"
                raise InputError(f"{path} is missing, though {self.FILE} names it; {advice}")
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
    """Of the source file, or of several files' sorted digests."""
    rules_sha256: str
    """Of the curation rules and their word lists."""
    held_out_sha256: str
    """Of the evaluation prompts, which were removed."""
    minimum_score: float | None = None
    """Of a subset by score; None for a whole set."""
    count: NonNegativeInt
    shards: tuple[FileRef, ...]
    funnel: tuple[FunnelStep, ...]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSet(Record):
    """The text embeddings of a prompt set in safetensors shards, or the decision to encode during training."""

    FILE: ClassVar[str] = "embedding_set.json"
    ADDED: ClassVar[frozenset[str]] = frozenset({"more"})
    prompts_sha256: str
    text_encoder_sha256: str
    """Of the teacher's text encoder and tokenizer."""
    dtype: str
    count: NonNegativeInt
    shape: tuple[int, int]
    """(L, D): tokens and width of one prompt's embeddings."""
    more: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of what else a prompt's conditioning has, by name."""
    shards: tuple[FileRef, ...]
    """One a block of prompts; without any, training encodes, and `uncond`, of the empty prompt, is None."""
    uncond: FileRef | None


@dataclass(frozen=True, kw_only=True)
class Licence:
    """The terms of a model's use, as its folder states them."""

    name: str = ""
    """The model card's `license`, such as `creativeml-openrail-m`; `link` is its `license_link`."""
    link: str = ""
    files: tuple[FileRef, ...] = ()
    """The model card and the texts of licence and use restrictions."""


LINEAGE = "lineage"
"""The folder in a student's folder with the records of its inputs."""


@dataclass(frozen=True, kw_only=True)
class Student(Record):
    """A distilled one-step generator: a diffusers folder with this record in it."""

    FILE: ClassVar[str] = "student.json"
    recipe: str
    recipe_values: dict[str, Any]
    """Every value of the recipe as it ran, overrides included."""
    strategy: str
    kappas: tuple[float, float, float, float]
    teacher_sha256: str
    prompts_sha256: str
    package_sha256: str
    seed: int
    t_init: int
    iterations: NonNegativeInt
    images_seen: NonNegativeInt
    nan_samples: NonNegativeInt
    """Samples that were masked in a loss because they held NaN."""
    seconds: float
    """Of training, restarts included."""
    hardware: str
    model: tuple[FileRef, ...]
    """The files that the stock pipeline's `from_pretrained` reads, and the LoRA file of a student that has one."""
    training_log: FileRef
    """JSON lines, one a logged iteration."""
    evaluations: FileRef | None = None
    """JSON lines, one an evaluation of the EMA during training."""
    grids: tuple[FileRef, ...]
    """Sample grids of the EMA from fixed noise, `grids/<images seen>.png`, in order."""
    licence: Licence = Licence()
    lineage: tuple[FileRef, ...] = ()
    """The records of its prompt set and, where there are any, its text embeddings and its teacher's variant."""
    git_commit: str = ""
    """With `+changes` for a modified checkout, like the container `image` by digest empty if unknown."""
    image: str = ""

    @property
    def account(self) -> tuple[FileRef, ...]:
        """Training log, interim scores and sample grids."""
        return (self.training_log, *([self.evaluations] if self.evaluations else []), *self.grids)

    def verify(self, folder: Path) -> None:
        """Also check that the model's folders hold no other file: libraries load any index or shard of weights."""
        super().verify(folder)
        named = {ref.path for ref in self.model}
        for part in sorted({Path(name).parts[0] for name in named if "/" in name}):
            for path in sorted((folder / part).rglob("*")):
                name = path.relative_to(folder)
                hidden = any(each.startswith(".") for each in name.parts)
                if path.is_dir() or hidden or name.as_posix() in named:
                    continue
                raise InputError(
                    f"{path} is not part of this student ({self.FILE} does not name it), and would be loaded with it; "
                    "move it elsewhere"
                )

    def prompt_set(self, folder: Path) -> PromptSet | None:
        """The record of its prompt set; a converted student has None. Raises InputError for another set's record."""
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


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of `n` images, with everything that makes it comparable."""

    name: str
    value: float
    protocol: str
    n: NonNegativeInt
    reference_digest: str
    """Of the definition of the reference images or prompts."""
    higher_is_better: bool
    interval: tuple[float, float] | None = None
    """95 % confidence, where the protocol has it."""

    @property
    def metric(self) -> str:
        """Name and protocol as a metric's name that MLflow and Kubeflow accept."""
        return re.sub(r"[^\w\-. :/]", "-", f"{self.name} {self.protocol}", flags=re.ASCII)

    def require_comparable(self, other: Score) -> None:
        """Raise InputError unless name, protocol, count and reference are equal."""
        for part in ("name", "protocol", "n", "reference_digest"):
            ours, theirs = getattr(self, part), getattr(other, part)
            if ours != theirs:
                raise InputError(f"scores of unlike {part} do not compare: {ours} and {theirs}; evaluate both alike")

    def better_by(self, other: Score) -> float:
        """By how much this score is better than `other`; negative if it is worse."""
        self.require_comparable(other)
        return self.value - other.value if self.higher_is_better else other.value - self.value


@dataclass(frozen=True, kw_only=True)
class StyleMean:
    """One style in HPSv2's table."""

    protocol: str
    style: str
    mean: float
    deviation: float
    """Standard deviation of the means of ten groups of consecutive prompts."""


@dataclass(frozen=True, kw_only=True)
class SubjectScores:
    """All scores of one generator and sampler setting."""

    subject: str
    """`student 1 step`, `teacher 20 steps`, `real images`, …"""
    steps: NonNegativeInt
    guidance_scale: float
    scores: tuple[Score, ...]
    styles: tuple[StyleMean, ...] = ()

    def score(self, name: str) -> Score:
        """The score of that name; raises InputError where there is none."""
        for score in self.scores:
            if score.name == name:
                return score
        raise InputError(f"{self.subject} has no score {name!r}; it has: {'; '.join(s.name for s in self.scores)}")


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """One of the images that fit their prompts best or worst."""

    prompt: str
    seed: int
    value: float
    measure: str
    """What `value` is, in words; higher is better."""
    best: bool
    picture: FileRef


@dataclass(frozen=True, kw_only=True)
class Scorecard(Record):
    """The scores of a student, and of its teacher under the same protocols."""

    FILE: ClassVar[str] = "scorecard.json"
    ADDED: ClassVar[frozenset[str]] = frozenset({"recipe_values"})
    student_sha256: str
    teacher_sha256: str
    package_sha256: str
    recipe: str = ""
    """The student's, as are the next four; empty if unknown."""
    recipe_values: dict[str, Any] = field(default_factory=dict)
    strategy: str = ""
    kappas: tuple[float, float, float, float] | None = None
    images_seen: NonNegativeInt | None = None
    subjects: tuple[SubjectScores, ...]
    grids: tuple[FileRef, ...]
    """One grid a subject, of the same prompts and noise: `grids/<subject>.png`."""
    grid_prompts: tuple[str, ...]
    extremes: tuple[Extreme, ...] = ()
    """Of the student: the best first, then the worst first."""
    reused: tuple[str, ...]
    """Subjects with scores of the teacher's own scorecard."""
    seconds: float

    def subject(self, name: str) -> SubjectScores:
        """The scores of that subject; raises InputError where there is none."""
        for subject in self.subjects:
            if subject.subject == name:
                return subject
        raise InputError(f"no subject {name!r} on the scorecard; it has: {'; '.join(s.subject for s in self.subjects)}")


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """The outcome of one rule of the gate; both texts hold the numbers."""

    rule: str
    found: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """Whether a model version may become the champion, and why."""

    FILE: ClassVar[str] = "verdict.json"
    name: str
    version: int
    champion_version: int | None
    scorecard_sha256: str
    rules_sha256: str
    passed: bool
    rules: tuple[RuleResult, ...]


@dataclass(frozen=True, kw_only=True)
class Promotion(Record):
    """The champion after a run."""

    FILE: ClassVar[str] = "promotion.json"
    name: str
    champion_version: int | None
    previous_version: int | None
    changed: bool


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published result of the same recipe values; only scores of its protocol compare."""

    source: str
    images_seen: float
    fid: float
    clip: float
    protocol: str = "fid/coco2014-30k-clean"
