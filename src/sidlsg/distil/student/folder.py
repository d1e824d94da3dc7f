"""Writes a student as a diffusers folder, which the stock pipeline samples without custom code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler

from sidlsg.distil.few_steps import FewSteps
from sidlsg.runtime.errors import NotFiniteError
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import LINEAGE, EmbeddingSet, FileRef, PromptSet, file_ref
from sidlsg.storage.tensors import first_not_finite
from sidlsg.teacher.config import INDEX, SAVE_AGAIN, is_present, present
from sidlsg.teacher.folder import OPTIONAL, is_loaded, load_in_float32
from sidlsg.teacher.format import TeacherVariant
from sidlsg.teacher.pipeline import Teacher, check_stock, network_class

NO_SKIP = 1e6
"""`timestep_scaling` at which `LCMScheduler` adds nothing of its input to the x0-prediction."""


def student_scheduler(teacher_scheduler: Any, steps: FewSteps, flows: bool = False) -> Any:
    """The stock scheduler whose steps are the student's sampler, at its timesteps; see docs/few-steps.md.

    With the teacher's first t_init + 1 betas and trailing spacing, `EulerDiscreteScheduler` starts at t_init from noise
    of scale s/a, passes s z to the network, and keeps the noise that a step implies. `LCMScheduler` takes fresh noise,
    and with a large `timestep_scaling` the x0-prediction unchanged; but it passes z, so its caller must scale the
    noise. None repeats the first noise, as `fixed` does.

    Of a flow, `FlowMatchEulerDiscreteScheduler` without a shift keeps the implied noise or takes fresh noise.
    """
    fresh = steps.count > 1 and steps.noise == "fresh"
    if flows:
        return FlowMatchEulerDiscreteScheduler(stochastic_sampling=fresh)
    count = steps.t_init + 1
    shared = {
        "num_train_timesteps": count,
        "trained_betas": [float(beta) for beta in teacher_scheduler.betas[:count]],
        "prediction_type": teacher_scheduler.config.prediction_type,
        "steps_offset": 1,  # without effect here; the stock pipeline warns at any other value
    }
    if fresh:
        return LCMScheduler(original_inference_steps=count, timestep_scaling=NO_SKIP, **shared)
    return EulerDiscreteScheduler(timestep_spacing="trailing", **shared)


def noise_scale(scheduler: Any) -> float:
    """s at the first timestep where a student's scheduler passes the first noise unscaled, else 1."""
    return float((1 - scheduler.alphas_cumprod[-1]).sqrt()) if isinstance(scheduler, LCMScheduler) else 1.0


def write_folder(teacher: Teacher, network: Any, steps: FewSteps, dtype: str, folder: Path) -> list[Path]:
    """Write the student's pipeline as a folder, safetensors only.

    All but the network and the scheduler are the teacher's files, byte for byte: text encoders, VAE, tokenizers, and
    its safety checker if it has one.

    Args:
        teacher: with the other components.
        network: the student.
        steps: its own.
        dtype: of the network's file, `float16` or `float32`.
        folder: an existing, empty folder.

    Returns:
        The written files.

    Raises:
        InputError: the stock pipeline does not load the folder.
        NotFiniteError: a weight of the student is not finite in this dtype.
    """
    index = read_object(teacher.folder / INDEX, SAVE_AGAIN)
    family = teacher.family
    kept = [name for name in present(teacher.folder) if name not in (family.network, "scheduler")]
    kept += [name for name in OPTIONAL if is_present(index, name)]
    for name in kept:
        (folder / name).mkdir()
        for path in sorted((teacher.folder / name).iterdir()):
            if is_loaded(f"{name}/{path.name}"):
                shutil.copyfile(path, folder / name / path.name)
        load_in_float32(folder / name / "config.json")
    # A copy, so that the caller's network keeps its precision.
    exported = network_class(family).from_config(network.config)
    exported.load_state_dict(network.state_dict())
    exported.to(getattr(torch, dtype))
    if bad := first_not_finite(exported.state_dict()):
        raise NotFiniteError(
            f"the student's {bad} holds values that are not finite in {dtype}; export it in float32, or resume from "
            "an earlier checkpoint"
        )
    exported.save_pretrained(folder / family.network, safe_serialization=True)
    scheduler = student_scheduler(teacher.scheduler, steps, family.flows)
    scheduler.save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    if is_present(index, "image_encoder"):  # not used by a text-to-image student
        index["image_encoder"] = [None, None]
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    check_stock(folder, f"the student of {teacher.folder}")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def copy_records(
    prompts: Path | None,
    embeddings: Path | None,
    teacher: Path,
    student: Path,
    real_images: Path | None = None,
) -> tuple[FileRef, ...]:
    """Copy the records of a prompt set, text embeddings, real images and a teacher's variant, if any, to a student."""
    kinds = (
        (prompts, PromptSet.FILE),
        (embeddings, EmbeddingSet.FILE),
        (real_images, RealImageSet.FILE),
        (teacher, TeacherVariant.FILE),
    )
    sources = [source for folder, name in kinds if folder is not None and (source := folder / name).is_file()]
    if sources:
        (student / LINEAGE).mkdir(exist_ok=True)
    copies = [Path(shutil.copyfile(source, student / LINEAGE / source.name)) for source in sources]
    return tuple(file_ref(copy, student) for copy in copies)
