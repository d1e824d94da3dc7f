"""`sidlsg teach`: the bundled assets, made from their recipe alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from sidlsg.bundled.captions import held_out_captions
from sidlsg.bundled.card import judge_card, teacher_card
from sidlsg.bundled.judge import train_judge
from sidlsg.bundled.prompts import TABLE_FILE, write_bundled_prompts
from sidlsg.bundled.protocols import BASELINE_SEED, REAL, ShapesProtocols, load_shapes_protocols, real_images
from sidlsg.bundled.tiny_sd import new_scheduler, new_tokenizer, train_diffusion, train_vae
from sidlsg.bundled.training import Log, TeachRecipe
from sidlsg.evaluate.scoring import EvaluationWork, score_subject
from sidlsg.evaluate.teacher_scores import TEACHER_SETTINGS, TeacherScores, setting_of
from sidlsg.runtime.hardware import set_threads
from sidlsg.storage.files import atomic_folder, atomic_write, refuse_foreign
from sidlsg.storage.records import SubjectScores
from sidlsg.storage.store import clear
from sidlsg.storage.tensors import save_tensors
from sidlsg.storage.uri import open_store
from sidlsg.teacher.folder import INDEX, folder_digest, load_in_float32
from sidlsg.teacher.sampling import StockSampler

TEACHER = "tiny-sd"
JUDGE = "judge"
JUDGE_FILE = "judge.safetensors"
PROMPTS = "prompts"


def teach(output: Path, work: Path, recipe: TeachRecipe, report: Callable[[str], None]) -> None:
    """Make the tiny teacher, its judge, its scores and the bundled prompts.

    Args:
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
    logs: dict[str, Log] = {}
    judge, logs["judge"] = train_judge(recipe, work, report)
    judge_file = output / JUDGE / JUDGE_FILE
    save_tensors(judge_file, {name: tensor.half() for name, tensor in judge.state_dict().items()}, {})
    atomic_write(output / JUDGE / "README.md", judge_card(recipe, logs["judge"], judge_file))
    vae, logs["vae"] = train_vae(recipe, work, report)
    tokenizer = new_tokenizer()
    unet, text_encoder, logs["diffusion"] = train_diffusion(recipe, vae, tokenizer, work, report)
    write_teacher(vae, unet, text_encoder, tokenizer, output / TEACHER)
    write_bundled_prompts(output / PROMPTS, recipe.seed)
    describe_teacher(output, recipe, {name: logs[name] for name in ("vae", "diffusion")})


def write_teacher(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
) -> None:
    """Save the teacher as a `StableDiffusionPipeline` folder in half precision."""
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with atomic_folder(folder, INDEX) as fresh:
        pipeline.to(dtype=torch.float16).save_pretrained(fresh, safe_serialization=True)
        load_in_float32(fresh / "text_encoder" / "config.json")


def describe_teacher(output: Path, recipe: TeachRecipe, logs: dict[str, Log]) -> TeacherScores:
    """Score the saved teacher, and write its scores, training log and card beside it."""
    folder = output / TEACHER
    protocols = load_shapes_protocols([c.text for c in held_out_captions()], output / JUDGE / JUDGE_FILE)
    parts = output / ".teacher_scores.parts"
    scores = TeacherScores(teacher_sha256=folder_digest(folder), subjects=score_teacher(folder, protocols, parts))
    scores.save(folder)
    rows = [{"network": name, **row} for name, log in logs.items() for row in log]
    atomic_write(folder / "training_log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    atomic_write(folder / "README.md", teacher_card(recipe, scores, logs))
    return scores


def score_teacher(teacher: Path, protocols: ShapesProtocols, parts: Path) -> tuple[SubjectScores, ...]:
    """Score a teacher at all `TEACHER_SETTINGS`, and real images as the baseline."""
    sampler, store = StockSampler(teacher), open_store(str(parts))
    work = EvaluationWork(parts=store)
    subjects = [score_subject(name, sampler, setting_of(name), [protocols], work)[0] for name in TEACHER_SETTINGS]
    clear(store)
    baseline = protocols.score(real_images(protocols.captions, BASELINE_SEED))
    return (*subjects, SubjectScores(subject=REAL, steps=0, guidance_scale=0.0, scores=baseline))
