"""`sidlsg teach`: the bundled assets, made from their recipe alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from sidlsg.bundled.card import judge_card, teacher_card
from sidlsg.bundled.domain import Domain
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.judge import train_judge
from sidlsg.bundled.prompts import TABLE_FILE, write_bundled_prompts
from sidlsg.bundled.protocols import BASELINE_SEED, REAL, DomainProtocols, load_domain_protocols, real_images
from sidlsg.bundled.tiny_families import NEW
from sidlsg.bundled.tiny_sd import new_sd, train_diffusion, train_vae
from sidlsg.bundled.training import Log, TeachRecipe
from sidlsg.evaluate.scoring import EvaluationWork, score_subject
from sidlsg.evaluate.teacher_scores import TEACHER_SETTINGS, TeacherScores, setting_of
from sidlsg.runtime.hardware import set_threads
from sidlsg.storage.files import atomic_folder, atomic_write, refuse_foreign
from sidlsg.storage.records import SubjectScores
from sidlsg.storage.store import clear
from sidlsg.storage.tensors import save_tensors
from sidlsg.storage.uri import JUDGE as BUNDLED_JUDGE
from sidlsg.storage.uri import TEACHER as BUNDLED_TEACHER
from sidlsg.storage.uri import open_store, resolve
from sidlsg.teacher.config import INDEX
from sidlsg.teacher.families import FAMILIES
from sidlsg.teacher.families.family import Family
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.folder import folder_digest, load_in_float32
from sidlsg.teacher.pipeline import load_component
from sidlsg.teacher.sampling import StockSampler

TEACHER = "tiny-sd"
JUDGE = "judge"
JUDGE_FILE = "judge.safetensors"
PROMPTS = "prompts"


def teach(domain: Domain, output: Path, work: Path, recipe: TeachRecipe, report: Callable[[str], None]) -> None:
    """Make a domain's tiny teacher, its judge, its scores and the bundled prompts.

    Args:
        domain: one of `sidlsg.bundled.domains`.
        output: for tiny-sd/, judge/ and prompts/, as in `assets/`.
        work: for the training state, from which the same call resumes.
        recipe: sizes and lengths.
        report: receives progress lines.

    Raises:
        InputError: a folder in `output` has something else, which is checked first.
    """
    for name, marker in ((TEACHER, INDEX), (JUDGE, JUDGE_FILE), (PROMPTS, TABLE_FILE)):
        refuse_foreign(output / name, marker)
    set_threads()
    judge, judge_log = train_judge(domain, recipe, work, report)
    judge_file = output / JUDGE / JUDGE_FILE
    save_tensors(judge_file, {name: tensor.half() for name, tensor in judge.state_dict().items()}, {})
    atomic_write(output / JUDGE / "README.md", judge_card(domain, recipe, judge_log, judge_file))
    logs: dict[str, Log] = {}
    vae, logs["vae"] = train_vae(domain, recipe, work, report)
    write_bundled_prompts(domain, output / PROMPTS, recipe.seed)
    pipeline = new_sd(domain, vae, recipe)
    _make_teacher(domain, SD, pipeline, output / TEACHER, judge_file, work, recipe, logs, report)


def teach_family(name: str, output: Path, work: Path, recipe: TeachRecipe, report: Callable[[str], None]) -> None:
    """Make a tiny teacher of another family on the bundled teacher's VAE, with its scores by the bundled judge.

    Args:
        name: of the family, one of `tiny_families.NEW`.
        output: becomes the teacher's folder.
        work: for the training state, from which the same call resumes.
        recipe: sizes and lengths.
        report: receives progress lines.

    Raises:
        InputError: `output` has something else.
    """
    refuse_foreign(output, INDEX)
    set_threads()
    vae = load_component(resolve(BUNDLED_TEACHER), "vae")
    torch.manual_seed(recipe.seed + 1)
    judge = resolve(BUNDLED_JUDGE)
    _make_teacher(SHAPES, family_named(name), NEW[name](vae), output, judge, work, recipe, {}, report)


def family_named(name: str) -> Family:
    """The family of that name, which exists."""
    return next(each for each in FAMILIES if each.name == name)


def _make_teacher(
    domain: Domain,
    family: Family,
    pipeline: Any,
    folder: Path,
    judge: Path,
    work: Path,
    recipe: TeachRecipe,
    logs: dict[str, Log],
    report: Callable[[str], None],
) -> None:
    logs = logs | {"diffusion": train_diffusion(domain, recipe, family, pipeline, work, report)}
    write_teacher(family, pipeline, folder)
    describe_teacher(domain, family, folder, judge, recipe, logs)


def write_teacher(family: Family, pipeline: Any, folder: Path) -> None:
    """Save a teacher as its pipeline's folder in half precision."""
    for part in pipeline.components.values():
        if isinstance(part, PreTrainedTokenizerFast):
            # Its file would tell whether it was called before, and so would the folder's digest.
            part.backend_tokenizer.no_padding()
    with atomic_folder(folder, INDEX) as fresh:
        pipeline.to(dtype=torch.float16).save_pretrained(fresh, safe_serialization=True)
        for name in family.text_encoders:
            load_in_float32(fresh / name / "config.json")


def describe_teacher(
    domain: Domain, family: Family, folder: Path, judge: Path, recipe: TeachRecipe, logs: dict[str, Log]
) -> TeacherScores:
    """Score the saved teacher, and write its scores, training log and card beside it."""
    protocols = load_domain_protocols(domain, [c.text for c in domain.held_out_captions()], judge)
    parts = folder.parent / ".teacher_scores.parts"
    scores = TeacherScores(teacher_sha256=folder_digest(folder), subjects=score_teacher(folder, protocols, parts))
    scores.save(folder)
    rows = [{"network": name, **row} for name, log in logs.items() for row in log]
    atomic_write(folder / "training_log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    atomic_write(folder / "README.md", teacher_card(domain, family, recipe, scores, logs))
    return scores


def score_teacher(teacher: Path, protocols: DomainProtocols, parts: Path) -> tuple[SubjectScores, ...]:
    """Score a teacher at all `TEACHER_SETTINGS`, and real images as the baseline."""
    sampler, store = StockSampler(teacher), open_store(str(parts))
    work = EvaluationWork(parts=store)
    subjects = [score_subject(name, sampler, setting_of(name), [protocols], work)[0] for name in TEACHER_SETTINGS]
    clear(store)
    baseline = protocols.score(real_images(protocols.domain, protocols.captions, BASELINE_SEED))
    return (*subjects, SubjectScores(subject=REAL, steps=0, guidance_scale=0.0, scores=baseline))
