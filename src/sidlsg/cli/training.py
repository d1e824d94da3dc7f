"""The commands of training: `sidlsg encode`, `distil`, `generate`, `estimate` and `recipes`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import (
    InputOptions,
    Recipe,
    RecipeOptions,
    Seed,
    Set,
    TeacherLayout,
    TeacherUri,
    process_rank,
    set_values,
)
from sidlsg.runtime.provenance import say
from sidlsg.storage.uri import TEACHER


def distil_process(training: Annotated[Path, typer.Argument(help="JSON file with the step's inputs.")]) -> None:
    """Train as a child process of the distil component, or as one of several under torchrun."""
    from sidlsg.distil.supervisor import ProcessNotes
    from sidlsg.runtime.distributed import end_with
    from sidlsg.runtime.progress import note as say
    from sidlsg.stages.training import read_training, train

    # After its parent is killed, this process must not train in parallel with a restarted one.
    end_with(os.getppid())
    notes = ProcessNotes(training.parent)
    with notes.recording():
        train(read_training(training), say, notes)


def encode(
    prompts: Annotated[Path, typer.Option(help="Folder of a prompt set.")],
    output: Annotated[Path, typer.Option(help="Folder of the text embeddings.")],
    teacher: TeacherUri = TEACHER,
    teacher_layout: TeacherLayout = "",
    dtype: Annotated[str, typer.Option(help="float16 or float32; at least the recipe's text_states.")] = "float16",
    budget_gb: Annotated[
        float, typer.Option(min=0, help="Disk budget in GB; a larger prompt set is encoded during training.")
    ] = 100.0,
) -> None:
    """Encode prompts once, for training without the text encoder; the same command again resumes.

    This pays off if the text encoder's GPU memory matters, or if many runs share a prompt set.
    """
    from sidlsg.stages.encode import encode as stage
    from sidlsg.teacher.source import checked_teacher

    folder, _ = checked_teacher(teacher, layout=teacher_layout)
    record = stage(prompts, folder, output, dtype, budget_gb, say)
    written = len(record.shards)
    print(f"{f'{written:,}' if written else 'no'} shard{'' if written == 1 else 's'} in {output}")


def distil(
    prompts: Annotated[Path, typer.Option(help="Folder of a prompt set.")],
    output: Annotated[Path, typer.Option(help="Folder of the student.")],
    checkpoints: Annotated[str, typer.Option(help="Folder or s3:// prefix of the training state.")],
    inputs: InputOptions,
    training: RecipeOptions,
    seed: Seed = 0,
    embeddings: Annotated[
        Path | None, typer.Option(help="Folder from `sidlsg encode`; without it, prompts are encoded here.")
    ] = None,
    generator_from: Annotated[
        str, typer.Option(help="Folder of a student whose UNet the generator starts from, instead of the teacher's.")
    ] = "",
    accept_changes: Annotated[
        bool, typer.Option(help="Resume from checkpoints of another recipe, teacher, prompt set, seed or numerics.")
    ] = False,
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow that receives metrics during training: http(s) address or sqlite:///FILE.")
    ] = "",
    experiment: Annotated[str, typer.Option(help="MLflow experiment of a new run; the model's name.")] = "sidlsg",
) -> None:
    """Distil a teacher into a one-step student; the same command again resumes.

    Under torchrun, each process takes its share of every batch: torchrun --nproc-per-node 8 -m sidlsg distil ...

    Exit code 4: an alarm stopped the run. 75: it received SIGTERM, and saved its state.
    """
    from sidlsg.distil.recipes import recipe_with_changes

    values = recipe_with_changes(training.recipe, training.changes())
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.stages.distil import Extras
    from sidlsg.stages.distil import distil as stage
    from sidlsg.storage.uri import resolve
    from sidlsg.teacher.source import checked_teacher

    folder, sha256 = checked_teacher(inputs.teacher, layout=inputs.teacher_layout)
    evaluated = values.evaluate_every > 0
    extras = Extras(
        teacher_sha256=sha256,
        embeddings=embeddings,
        generator_from=generator_from,
        accept_changes=accept_changes,
        held_out=read_held_out(resolve(inputs.held_out)) if evaluated else (),
        judge=resolve(inputs.judge) if evaluated else None,
        tracking_uri=tracking_uri,
        experiment=experiment,
    )
    student = stage(prompts, folder, output, values, seed, checkpoints, say, extras)
    if process_rank() == 0:
        say(f"student of {student.images_seen:,} images in {output}")


def generate(
    student: Annotated[Path, typer.Argument(help="Folder of a student.")],
    prompt: Annotated[str, typer.Argument(help="Prompt of the images.")],
    output: Annotated[Path, typer.Option(help="Folder that receives the PNGs.")] = Path("pictures"),
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=1, help="Sampler steps; the student is made for one.")] = 1,
) -> None:
    """Generate images with a student: image i has seed SEED + i."""
    from PIL import Image

    from sidlsg.distil.student.generation import generate as sample
    from sidlsg.runtime.hardware import sampling_threads, set_threads
    from sidlsg.teacher.images import save_png

    set_threads(sampling_threads(student / "unet"))
    seeds = range(seed, seed + count)
    # One at a time, because an image's last bits depend on its batch.
    images = sample(student, [prompt] * count, seeds, steps, batch=1)
    for image, number in zip(images, seeds, strict=True):
        path = output / f"{number:06d}.png"
        save_png(Image.fromarray(image), path)
        print(path)


def estimate(
    recipe: Recipe = "tiny",
    set_: Set = (),
    teacher: Annotated[str, typer.Option(help="Folder of the teacher; by default the recipe's namesake.")] = "",
    gpu: Annotated[
        str, typer.Option(help="h200, h100, a100, a100-40, l40s, 4090, a10g or l4; by default this machine's, or h100.")
    ] = "",
    memory_gb: Annotated[
        float, typer.Option(min=0, help="The GPU's memory in GB (1e9 bytes); 0 for the usual size.")
    ] = 0.0,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs, with one process each.")] = 1,
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1, help="Assumed MFU: the fraction of the GPU's peak that is reached.")
    ] = 0.2,
    price: Annotated[float, typer.Option(min=0, help="Hourly price of a GPU.")] = 0.0,
    encoded: Annotated[bool, typer.Option("--encoded", help="Prompts are encoded before training.")] = False,
) -> None:
    """Estimate a recipe's memory, fitting options, time and cost before it runs."""
    from sidlsg.cli.estimate_table import print_estimate
    from sidlsg.distil.estimate.devices import chosen_gpu
    from sidlsg.distil.estimate.estimate import estimate as stage
    from sidlsg.distil.estimate.fake_networks import shape_of
    from sidlsg.distil.recipes import recipe_with_changes

    values = recipe_with_changes(recipe, json.dumps(set_values(set_)))
    shape = shape_of(teacher, recipe)
    found = stage(
        shape.unet,
        values,
        chosen_gpu(gpu, memory_gb),
        world_size=gpus,
        text_encoder=0 if encoded else shape.text_encoder,
        mfu=mfu,
        report=print,
    )
    print_estimate(found, shape.name, price)


def recipes() -> None:
    """List the recipes with published results."""
    from sidlsg.distil.recipes import RECIPES

    for recipe in RECIPES.values():
        kappas = ", ".join(f"{kappa:g}" for kappa in recipe.guidance.scales)
        print(f"{recipe.name:<18} {recipe.strategy} κ1..κ4 = {kappas}; {recipe.iterations * recipe.batch:,} images")
        for row in recipe.published:
            print(f"{'':<18} published: FID {row.fid} CLIP {row.clip} at {row.images_seen:,.0f} images ({row.source})")
