"""A fabricated run: every record and file that a report reads, with pictures of the shapes domain."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.bundled.shapes.drawing import draw
from sidlsg.distil.recipes import published_results
from sidlsg.report.run_page import RunRecords, write_report
from sidlsg.runtime.costs import Prices
from sidlsg.storage.records import (
    FunnelStep,
    ModelVersion,
    Promotion,
    PromptSet,
    RuleResult,
    Score,
    Scorecard,
    Student,
    SubjectScores,
    Verdict,
    file_ref,
)
from sidlsg.teacher.images import grid, save_png

NO_PRICES = Prices()
SECONDS = {
    "curate": 3.4,
    "encode": 2.0,
    "distil": 450.0,
    "register": 6.1,
    "evaluate": 95.0,
    "gate": 1.2,
    "promote": 0.3,
}
SUBJECTS = (
    ("teacher 20 steps", 20, 1.0, (2.5, 8.25, 0.962, 0.871)),
    ("teacher 1 step", 1, 1.0, (151.25, 97.5, 0.41, 0.0625)),
    ("student 1 step", 1, 0.0, (3.125, 11.75, 0.953, 0.884)),
    ("real images", 0, 0.0, (0.09375, 0.5, 0.999, 0.996)),
)
SCORES = (
    ("fid_judge", "fid/shapes-judge64-2016", False),
    ("fid_efficientnet", "fid/shapes-efficientnet-lite0-64-2016", False),
    ("attributes", "attributes/shapes-judge-mean-2016", True),
    ("all_attributes", "attributes/shapes-judge-all-2016", True),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The folders and records of a run, as `write_report` takes them."""

    prompts: Path
    student: Path
    scorecard: Path
    version: ModelVersion
    verdict: Verdict
    promotion: Promotion

    @property
    def records(self) -> RunRecords:
        return RunRecords(
            prompts=PromptSet.load(self.prompts),
            student=Student.load(self.student),
            version=self.version,
            scorecard=Scorecard.load(self.scorecard),
            verdict=self.verdict,
            promotion=self.promotion,
        )

    def write(self, output: Path, seconds: dict[str, float] = SECONDS, prices: Prices = NO_PRICES) -> str:
        """The page's text."""
        write_report(
            self.prompts,
            self.student,
            self.scorecard,
            self.version,
            self.verdict,
            self.promotion,
            seconds,
            prices,
            output,
            published_results(),
        )
        return output.read_text()


MakeRun = Callable[..., Run]


def log_rows(count: int = 60) -> list[dict[str, Any]]:
    """A training log that looks like one: decaying losses, a few outliers, one NaN."""
    rows = []
    for i in range(1, count + 1):
        wave = math.sin(i * 2.3) * 0.6 + math.sin(i * 0.71) * 0.4
        rows.append(
            {
                "iteration": 2 * i,
                "images_seen": 128 * i,
                "fake_score_loss": 60 + 90 * math.exp(-i / 12) + 6 * wave,
                "generator_loss": math.nan if i == count // 2 else 30 * math.exp(-i / 20) + 4 * wave,
                "fake_score_gradient_norm": 40 + 400 * math.exp(-i / 5) + 12 * wave,
                "generator_gradient_norm": 18 + 1800 * math.exp(-i / 4) + 5 * wave,
                "learning_rate": 1e-4,
                "nan_samples": 0,
                "images_per_second": 26 + 2 * wave,
                "seconds": 5.0 * i,
            }
        )
    return rows


def save_prompts(folder: Path) -> PromptSet:
    shard = folder / "shards" / "00000.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"not read by the report")
    counts = (("read", 9000, 9000), ("score", 9000, 7200), ("clean", 7200, 7190), ("duplicates", 7190, 1210))
    record = PromptSet(
        source_sha256="1" * 64,
        rules_sha256="2" * 64,
        held_out_sha256="3" * 64,
        count=1210,
        shards=(file_ref(shard, folder),),
        funnel=tuple(FunnelStep(name=name, rows_in=before, rows_out=after) for name, before, after in counts),
    )
    record.save(folder)
    return record


def save_student(
    folder: Path, prompts: PromptSet, log: str | None, grids: int, values: Mapping[str, Any] = MappingProxyType({})
) -> Student:
    folder.mkdir()
    model = folder / "model_index.json"
    model.write_text("{}")
    path = folder / "training_log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in log_rows()) if log is None else log)
    samples = []
    for place in range(grids):
        samples.append(folder / "grids" / f"{place * place * 200:09d}.png")
        save_png(grid(draw(held_out_captions()[:36], 100 + place, range(36)), 6), samples[-1])
    record = Student(
        recipe="tiny",
        recipe_values={"name": "tiny", "alpha": 1.25, "batch": 64, "lr": 1e-4, "scales": {"kappa": 1.5}, **values},
        strategy="lsg",
        kappas=(1.5, 1.5, 1.5, 2.75),
        teacher_sha256="a" * 64,
        prompts_sha256=prompts.digest,
        package_sha256="c" * 64,
        seed=4321,
        t_init=625,
        iterations=200,
        images_seen=12800,
        nan_samples=0,
        seconds=447.2,
        hardware="CPU, 2 cores",
        model=(file_ref(model, folder),),
        training_log=file_ref(path, folder),
        grids=tuple(file_ref(sample, folder) for sample in samples),
    )
    record.save(folder)
    return record


def save_scorecard(folder: Path, student: Student, first_prompt: str | None, grids: bool) -> Scorecard:
    folder.mkdir()
    captions = held_out_captions()[:36]
    files, subjects = [], []
    for place, (name, steps, guidance_scale, values) in enumerate(SUBJECTS):
        if grids:
            files.append(folder / "grids" / f"{name.replace(' ', '_')}.png")
            save_png(grid(draw(captions, place, range(36)), 6), files[-1])
        scores = tuple(
            Score(
                name=score,
                value=value,
                protocol=protocol,
                n=2016,
                reference_digest=hashlib.sha256(protocol.encode()).hexdigest(),
                higher_is_better=higher,
            )
            for (score, protocol, higher), value in zip(SCORES, values, strict=True)
        )
        subjects.append(SubjectScores(subject=name, steps=steps, guidance_scale=guidance_scale, scores=scores))
    texts = [caption.text for caption in captions] if grids else []
    if first_prompt is not None:
        texts[:1] = [first_prompt]
    record = Scorecard(
        student_sha256=student.digest,
        teacher_sha256="a" * 64,
        package_sha256="c" * 64,
        subjects=tuple(subjects),
        grids=tuple(file_ref(file, folder) for file in files),
        grid_prompts=tuple(texts),
        reused=("teacher 20 steps",),
        seconds=93.5,
    )
    record.save(folder)
    return record


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Fabricate a run that promoted version 3 over version 2, of a recipe with such values."""

    def make(
        name: str = "shapes",
        first_prompt: str | None = None,
        log: str | None = None,
        grids: bool = True,
        rules: tuple[RuleResult, ...] | None = None,
        **values: Any,
    ) -> Run:
        prompts = save_prompts(tmp_path / "prompts")
        student = save_student(tmp_path / "student", prompts, log, 5 if grids else 0, values)
        card = save_scorecard(tmp_path / "scorecard", student, first_prompt, grids)
        if rules is None:
            rules = (
                RuleResult(
                    rule="attributes of student 1 step is at least 0.95",
                    found="0.953 (attributes/shapes-judge-mean-2016, 2016 images)",
                    passed=True,
                ),
                RuleResult(
                    rule="fid_judge of student 1 step is at most 0.25 × that of teacher 1 step",
                    found="3.125 (fid/shapes-judge64-2016, 2016 images); 0.25 × 151.25 is 37.8125",
                    passed=True,
                ),
            )
        version = ModelVersion(name=name, version=3, run_id="5f0c2d9e" * 4, student_sha256=student.digest)
        verdict = Verdict(
            name=name,
            version=3,
            champion_version=2,
            scorecard_sha256=card.digest,
            rules_sha256="4" * 64,
            passed=all(rule.passed for rule in rules),
            rules=rules,
        )
        promotion = Promotion(name=name, champion_version=3, previous_version=2, changed=True)
        if not verdict.passed:
            promotion = replace(promotion, champion_version=2, previous_version=1, changed=False)
        return Run(
            prompts=tmp_path / "prompts",
            student=tmp_path / "student",
            scorecard=tmp_path / "scorecard",
            version=version,
            verdict=verdict,
            promotion=promotion,
        )

    return make
