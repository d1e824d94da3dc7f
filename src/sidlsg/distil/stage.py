"""The `distil` stage: a prompt set and a teacher in, a student's folder out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from diffusers import UNet2DConditionModel

from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.loop import train
from sidlsg.distil.state import TrainingState
from sidlsg.export.card import student_card
from sidlsg.export.folder import write_folder
from sidlsg.hardware import best_device, device_name, set_threads
from sidlsg.package import TRAINING_CODE, code_digest
from sidlsg.prompts.read import read_prompts
from sidlsg.recipes.recipe import Recipe
from sidlsg.records import PromptSet, Student, file_ref
from sidlsg.storage import atomic_folder, atomic_write, refuse_foreign, refuse_inside
from sidlsg.teacher.folder import check_folder
from sidlsg.teacher.load import load_teacher


def run_key(recipe: Recipe, teacher_sha256: str, prompts_sha256: str, seed: int) -> str:
    """Digest of everything that a checkpoint depends on: only an equal run may continue it."""
    parts = [recipe.digest, teacher_sha256, prompts_sha256, str(seed), code_digest(TRAINING_CODE)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def distil(
    prompts: Path,
    teacher: Path,
    output: Path,
    recipe: Recipe,
    seed: int,
    checkpoints: Path,
    report: Callable[[str], None],
) -> Student:
    """Distil a teacher into a one-step student and export it.

    Args:
        prompts: folder of a PromptSet.
        teacher: folder of a `StableDiffusionPipeline` with safetensors weights.
        output: becomes the student's diffusers folder.
        recipe: all values of the run.
        seed: of every draw.
        checkpoints: each run has a folder of its own in here, so a run that was killed finds its state and a
            changed one does not take another's.
        report: receives lines for the user.

    Returns:
        The record that was saved in `output`.

    Raises:
        InputError: an input or the output folder cannot be used.
    """
    refuse_foreign(output, Student.FILE)
    refuse_inside(output, prompts=prompts, teacher=teacher, checkpoints=checkpoints)
    check_folder(teacher)
    prompt_set = PromptSet.load(prompts)
    texts = read_prompts(prompts)
    set_threads()
    device = best_device()
    loaded = load_teacher(teacher, device)
    key = run_key(recipe, loaded.sha256, prompt_set.digest, seed)
    work = checkpoints / key[:16]
    state = train(recipe, loaded, texts, seed, work, Checkpoints(work, key, report), report)

    with atomic_folder(output, Student.FILE) as folder:
        files = write_folder(loaded, _as_unet(state), recipe.t_init, recipe.export_dtype, folder)
        log = folder / "training_log.jsonl"
        atomic_write(log, "".join(json.dumps(row) + "\n" for row in state.log))
        grids = []
        for source in sorted((work / "grids").glob("*.png")):
            target = folder / "grids" / source.name
            target.parent.mkdir(exist_ok=True)
            grids.append(Path(shutil.copyfile(source, target)))
        student = Student(
            recipe=recipe.name,
            recipe_values=recipe.values(),
            strategy=recipe.strategy,
            kappas=recipe.guidance.scales,
            teacher_sha256=loaded.sha256,
            prompts_sha256=prompt_set.digest,
            package_sha256=code_digest(),
            seed=seed,
            t_init=recipe.t_init,
            iterations=state.iteration,
            images_seen=state.images_seen,
            nan_samples=state.nan_samples,
            seconds=round(state.seconds, 1),
            hardware=device_name(device),
            model=tuple(file_ref(path, folder) for path in files),
            training_log=file_ref(log, folder),
            grids=tuple(file_ref(path, folder) for path in grids),
        )
        student.save(folder)
        atomic_write(folder / "README.md", student_card(student))
    return student


def _as_unet(state: TrainingState) -> UNet2DConditionModel:
    if not isinstance(state.ema, UNet2DConditionModel):
        raise TypeError(f"the EMA is a {type(state.ema).__name__}, not a UNet2DConditionModel")
    return state.ema
