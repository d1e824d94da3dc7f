"""The `evaluate` stage: scores a student and its teacher, and writes a scorecard."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from sidlsg.bundled.domains import DOMAINS, domain_of, domain_of_size
from sidlsg.bundled.protocols import BASELINE_SEED, REAL, DomainProtocols, load_domain_protocols, real_images
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.recipes import published_results
from sidlsg.distil.student.folder import noise_scale
from sidlsg.evaluate.grids import grid_places, save_extremes, save_grids
from sidlsg.evaluate.published_suite import PublishedSuite, load_published
from sidlsg.evaluate.scoring import EvaluationWork, score_subject
from sidlsg.evaluate.suite import ImageSet, Suite
from sidlsg.evaluate.teacher_scores import TEACHER_SETTINGS, read_teacher_scores, require_settings, setting_of
from sidlsg.evaluate.weights import parse_weights
from sidlsg.prompts.held_out import read_held_out
from sidlsg.registry.address import given_address
from sidlsg.registry.gate_rules import STUDENT, subject_of
from sidlsg.report.scoreboard import write_scoreboard
from sidlsg.runtime.distributed import joined, own_processes
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import cpu_quota, require_gpus, set_threads
from sidlsg.runtime.progress import note
from sidlsg.runtime.provenance import checkpoints_place, code_digest
from sidlsg.stages import timed
from sidlsg.stages.failures import failure_in, recording_failure, results_in
from sidlsg.stages.inputs import text_of
from sidlsg.storage.files import atomic_folder, folder_lock, refuse_foreign, refuse_inside, require_writable
from sidlsg.storage.records import ModelVersion, Scorecard, Student, SubjectScores
from sidlsg.storage.store import S3, FolderStore, clear
from sidlsg.storage.uri import open_store, resolve, split_list
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting, StudentSetting
from sidlsg.teacher.source import checked_teacher

STUDENT_SETTING = Setting(steps=1, guidance_scale=0.0)
"""A one-step student's."""
COMPARED = ("teacher 20 steps", "teacher 1 step")
"""The teacher's settings that are scored by default."""


@timed
def evaluate_step(
    *,
    student: Path | None,
    version: str,
    tracking_uri: str,
    teacher: str,
    teacher_layout: str,
    held_out: str,
    judge: str,
    protocols: str,
    weights: str,
    teacher_settings: str,
    keep_images: str,
    scorecard: Path,
    metrics: Path,
    html: Path,
    setting: Mapping[str, Any],
) -> tuple[str, dict[str, float]]:
    """Score a student's folder, or a registered version if no folder is given.

    Returns:
        The scorecard's digest and the student's scores by name; empty if a failure is recorded instead.
    """
    sha256, scores = "", {}
    with recording_failure("evaluate", setting, scorecard), tempfile.TemporaryDirectory() as scratch:
        require_gpus()
        folder, teacher_sha256 = checked_teacher(teacher, layout=teacher_layout)
        scored = _fetched(version, tracking_uri, Path(scratch) / "student") if student is None else results_in(student)
        name = f"evaluate-{Student.load(scored).digest[:16]}"
        card = evaluate(
            student=scored,
            teacher=folder,
            teacher_sha256=teacher_sha256,
            output=scorecard,
            held_out=read_held_out(resolve(held_out)),
            judge=resolve(judge),
            report=note,
            published=load_published(split_list(protocols, ","), parse_weights(text_of(weights))),
            settings=split_list(teacher_settings, ";") or None,
            keep_images=f"{keep_images}/{name}" if keep_images else "",
            parts=f"{checkpoints_place()}/{name}",
        )
        label = f"student {card.student_sha256[:8]}"
        write_scoreboard([(label, scorecard)], html, f"Scores of {label}", published_results())
        sha256, scores = card.digest, {score.metric: score.value for score in subject_of(card, STUDENT).scores}
    if failure := failure_in(scorecard):
        html.write_text(f"<!doctype html><title>Failed</title><p>{escape(failure.text)}</p>")
    # The scores are the artifact's metadata; without a file as well, a local cache considers the artifact lost.
    metrics.write_text(json.dumps(scores))
    return sha256, scores


def _fetched(version: str, tracking_uri: str, folder: Path) -> Path:
    # Imported here: MLflow takes seconds, and most evaluations score a folder.
    from sidlsg.registry.files import fetch_student

    return fetch_student(ModelVersion.from_json(version), given_address(tracking_uri), folder)


def evaluate(
    student: Path,
    teacher: Path,
    output: Path,
    held_out: Sequence[str],
    judge: Path,
    report: Callable[[str], None],
    published: PublishedSuite | None = None,
    settings: Sequence[str] | None = None,
    keep_images: str = "",
    parts: str = "",
    teacher_sha256: str = "",
) -> Scorecard:
    """Score a student and its teacher under the same protocols: published ones, and those of a bundled domain.

    Under torchrun each process samples its share of the images, and rank 0 writes. Values of blocks of images are kept
    until the end, so that the same call resumes a killed one. The teacher's scores under the domain's protocols are
    reused from `teacher_scores.json` in its folder if they are for the same files and protocols.

    Args:
        student: a student's diffusers folder.
        teacher: the folder of the teacher that it was distilled from.
        output: receives scorecard.json, grids/ and extremes/.
        held_out: the prompts of the domain's protocols; published protocols have their own.
        judge: the domain's judge, a safetensors file.
        report: receives lines for the user.
        published: published protocols, loaded.
        settings: of the teacher, by their names in `TEACHER_SETTINGS`. By default `COMPARED` under the domain's
            protocols, and none under published ones, which take hours.
        keep_images: folder or `s3://` prefix that receives the images; empty to keep none.
        parts: folder or `s3://` prefix for the blocks of this evaluation only; by default a folder next to the output.
        teacher_sha256: digest of the teacher's model files if it is known; empty to compute it.

    Returns:
        The scorecard; in processes other than rank 0, without scores.

    Raises:
        InputError: an input or the output folder cannot be used.
    """
    began = time.monotonic()
    refuse_foreign(output, Scorecard.FILE)
    refuse_inside(output, student=student, teacher=teacher, judge=judge)
    record = Student.load(student)
    record.verify(student)
    check_folder(teacher)
    processes = own_processes(student, teacher)
    teacher_sha256 = teacher_sha256 or folder_digest(teacher)
    if record.teacher_sha256 != teacher_sha256:
        raise InputError(
            f"{student} was distilled from the teacher {record.teacher_sha256[:16]}…, but {teacher} is "
            f"{teacher_sha256[:16]}…; give the teacher that the student came from"
        )
    if keep_images.startswith(S3):
        open_store(keep_images)
    elif keep_images:
        folder = Path(keep_images).expanduser()
        refuse_inside(output, keep_images=folder)
        require_writable(folder)
    wanted = COMPARED if settings is None else require_settings(settings)
    with joined(processes) as world, contextlib.ExitStack() as stack:
        set_threads(cpu_quota() // processes)
        half = published is not None and world.device.type == "cuda"
        teacher_sampler = StockSampler(teacher, world.device, half, teacher_sha256)
        # The record names the student's files by digest, and they were verified.
        student_sampler = StockSampler(student, world.device, half, record.digest)
        bundled = _domain_protocols(teacher_sampler.image_size, held_out, judge, teacher, published is not None)
        store = open_store(parts or str(output.absolute().with_name(f".{output.name}.parts")))
        if world.is_rank0 and isinstance(store, FolderStore):
            stack.enter_context(folder_lock(store.folder, f"another evaluation is writing {output}"))
        work = EvaluationWork(parts=store, world=world, keep_images=keep_images)
        of_teacher = None if settings is None else published
        if bundled is None and of_teacher is None:
            wanted = ()
        stored = {}
        if bundled is not None:
            stored = read_teacher_scores(teacher, teacher_sha256, bundled.digests, len(bundled.captions))
        subjects = []
        for name in [name for name in TEACHER_SETTINGS if name in wanted or name in stored]:
            suites: list[Suite] = [suite for suite in (None if name in stored else bundled, of_teacher) if suite]
            subject, _ = score_subject(name, teacher_sampler, setting_of(name), suites if name in wanted else [], work)
            if name in stored:
                subject = replace(subject, scores=stored[name].scores + subject.scores)
            subjects.append(subject)
        both: list[Suite] = [suite for suite in (bundled, published) if suite]
        own = student_settings(record, noise_scale(student_sampler.pipeline.scheduler))
        last = list(own)[-1]
        subject, fit = score_subject(last, student_sampler, own[last], both, work)
        scorecard = Scorecard(
            student_sha256=record.digest,
            teacher_sha256=teacher_sha256,
            package_sha256=code_digest(),
            recipe=record.recipe,
            recipe_values=record.recipe_values,
            strategy=record.strategy,
            kappas=record.kappas,
            images_seen=record.images_seen,
            subjects=(*subjects, subject),
            grids=(),
            grid_prompts=(),
            reused=tuple(stored),
            seconds=0.0,
        )
        if world.is_rank0:
            if stored:
                report(f"scores taken from the teacher's own scorecard, same files and protocols: {'; '.join(stored)}")
            samplers = {name: (teacher_sampler, setting_of(name)) for name in wanted}
            samplers |= {name: (student_sampler, setting) for name, setting in own.items()}
            with atomic_folder(output, Scorecard.FILE) as folder:
                scorecard = _with_images(scorecard, both[0].sets[0], samplers, bundled, folder)
                if fit is not None:
                    extremes = save_extremes(fit, student_sampler, own[last], folder)
                    scorecard = replace(scorecard, extremes=extremes)
                scorecard = replace(scorecard, seconds=round(time.monotonic() - began, 1))
                scorecard.save(folder)
        # No other process may still be reading the parts when they are deleted.
        world.barrier()
        if world.is_rank0:
            clear(store)
    return scorecard


def student_settings(student: Student, noise_scale: float) -> dict[str, Setting]:
    """How a student is sampled up to each of its steps, by name, its own way last; `noise_scale` as in the setting."""
    steps = FewSteps.of(student)
    if steps.count == 1:
        return {STUDENT: STUDENT_SETTING}
    names = [f"student step {k} of {steps.count}" for k in range(1, steps.count)] + [f"student {steps.count} steps"]
    return {
        name: StudentSetting(steps=k, guidance_scale=0.0, timesteps=steps.timesteps[:k], noise_scale=noise_scale)
        for k, name in enumerate(names, start=1)
    }


def _domain_protocols(
    image_size: int, held_out: Sequence[str], judge: Path, teacher: Path, has_others: bool
) -> DomainProtocols | None:
    """The protocols of the teacher's domain; None if it has none and other protocols are given."""
    domain = domain_of(held_out, image_size) if has_others else domain_of_size(image_size)
    if domain:
        return load_domain_protocols(domain, held_out, judge)
    if has_others:
        return None
    sizes = " or ".join(f"{each.image_size} ({each.name})" for each in DOMAINS.values())
    raise InputError(
        f"{teacher} makes images of {image_size} pixels a side, and the bundled domains have {sizes}; give published "
        "protocols: `sidlsg protocols` lists them, and what files they need"
    )


def _with_images(
    scorecard: Scorecard,
    sampled: ImageSet,
    samplers: Mapping[str, tuple[StockSampler, Setting]],
    bundled: DomainProtocols | None,
    folder: Path,
) -> Scorecard:
    """The scorecard with image grids, and with the real-image baseline."""
    indices = grid_places(len(sampled.prompts))
    prompts = [sampled.prompts[index] for index in indices]
    images = {name: sampler(prompts, indices, setting) for name, (sampler, setting) in samplers.items()}
    subjects = scorecard.subjects
    if bundled is not None:
        real = real_images(bundled.domain, bundled.captions, BASELINE_SEED)
        images[REAL] = real[indices]
        subjects += (SubjectScores(subject=REAL, steps=0, guidance_scale=0.0, scores=bundled.score(real)),)
    return replace(
        scorecard,
        subjects=subjects,
        grids=save_grids(images, folder),
        grid_prompts=tuple(prompts),
    )
