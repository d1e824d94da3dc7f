"""The commands of training: `sidlsg encode`, `distil`, `generate`, `estimate` and `recipes`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import (
    TRACKING,
    InputOptions,
    Json,
    Recipe,
    RecipeOptions,
    Seed,
    Set,
    TeacherLayout,
    TeacherUri,
    Variant,
    process_rank,
    recipe_changes,
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
    variant: Variant = "",
    teacher_layout: TeacherLayout = "",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float16 or float32, not below text_states.")] = "float16",
    budget_gb: Annotated[
        float, typer.Option(min=0, help="Disk budget in GB; a larger prompt set is encoded during training.")
    ] = 100.0,
) -> None:
    """Encode prompts, to train without text encoder; the same command again resumes.

    This pays off if the text encoder's GPU memory matters, or if many runs share a prompt set.

    Examples:
      sidlsg encode --prompts prompts --output embeddings
      sidlsg encode --prompts prompts --teacher sd15 --output embeddings
    """
    from sidlsg.stages.encode import encode as stage
    from sidlsg.teacher.source import checked_teacher

    folder, _ = checked_teacher(teacher, layout=teacher_layout, variant=variant)
    record = stage(prompts, folder, output, dtype, budget_gb, say)
    written = len(record.shards)
    print(f"{f'{written:,}' if written else 'no'} shard{'' if written == 1 else 's'} in {output}")


def distil(
    prompts: Annotated[Path, typer.Option(help="Folder of a prompt set.")],
    output: Annotated[Path, typer.Option(help="Folder of the student.")],
    checkpoints: Annotated[str, typer.Option(metavar="URI", help="Folder or s3:// prefix of the training state.")],
    inputs: InputOptions,
    training: RecipeOptions,
    seed: Seed = 0,
    embeddings: Annotated[Path | None, typer.Option(help="Folder of `sidlsg encode`; else encodes now.")] = None,
    real_images: Annotated[Path | None, typer.Option(help="Folder of `sidlsg images encode`, for adversarial.")] = None,
    generator_from: Annotated[
        str, typer.Option(metavar="PATH", help="Student whose network the generator starts from.")
    ] = "",
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Resume checkpoints of another recipe, teacher, prompt set or seed."),
    ] = False,
    no_accept_changes: Annotated[bool, typer.Option("--no-accept-changes", hidden=True)] = False,
    tracking_uri: Annotated[
        str, typer.Option(metavar="URI", envvar=TRACKING, help="MLflow that receives metrics.")
    ] = "",
    experiment: Annotated[str, typer.Option(metavar="NAME", help="MLflow experiment of a new run.")] = "sidlsg",
) -> None:
    """Distil a teacher into a student of one step, or `steps`; the same command again resumes.

    Under torchrun, each process takes its share of every batch: torchrun --nproc-per-node 8 -m sidlsg distil ...

    Exit code 4: an alarm stopped the run. 75: it received SIGTERM, and saved its state.

    Examples:
      sidlsg distil --prompts prompts --output student --checkpoints state
      sidlsg distil --prompts p --output s --checkpoints s3://runs/1 --recipe sd15
    """
    from sidlsg.distil.recipes import recipe_with_changes

    values = recipe_with_changes(training.recipe, training.changes())
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.stages.distil import Extras
    from sidlsg.stages.distil import distil as stage
    from sidlsg.storage.uri import resolve
    from sidlsg.teacher.source import checked_teacher

    folder, sha256 = checked_teacher(inputs.teacher, layout=inputs.teacher_layout, variant=inputs.variant)
    evaluated = values.evaluate_every > 0
    extras = Extras(
        teacher_sha256=sha256,
        embeddings=embeddings,
        real_images=real_images,
        generator_from=generator_from,
        accept_changes=accept_changes and not no_accept_changes,
        held_out=read_held_out(resolve(inputs.held_out)) if evaluated else (),
        judge=resolve(inputs.judge) if evaluated else None,
        tracking_uri=tracking_uri,
        experiment=experiment,
    )
    student = stage(prompts, folder, output, values, seed, checkpoints, say, extras)
    if process_rank() == 0:
        say(f"student of {student.images_seen:,} images in {output}")


def generate(
    student: Annotated[Path, typer.Argument(metavar="STUDENT", help="Folder of a student.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Prompt of the images.")],
    output: Annotated[Path, typer.Option(help="Folder for the PNGs.")] = Path("pictures"),
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1,
    seed: Seed = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Sampler steps; by default those that the student is made for.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Generate images with a student: image i has seed SEED + i.

    Earlier images in the folder stay: another image of the same seed is SEED-2.png.

    Examples:
      sidlsg generate runs/demo/student "a small red circle on a blue background"
      sidlsg generate runs/demo/student "a large green ring" --count 4 --seed 1
    """
    from sidlsg.distil.student.generation import generate as sample
    from sidlsg.distil.student.generation import require_image_folder, write_images
    from sidlsg.runtime.hardware import sampling_threads, set_threads

    require_image_folder(output)
    set_threads(sampling_threads(student))
    seeds = range(seed, seed + count)
    # One at a time, because an image's last bits depend on its batch.
    images = sample(student, [prompt] * count, seeds, steps, batch=1)
    for path, number in zip(write_images(images, seeds, output), seeds, strict=True):
        print(json.dumps({"file": str(path), "seed": number, "prompt": prompt}) if as_json else path)


def estimate(
    recipe: Recipe = "tiny",
    set_: Set = (),
    teacher: Annotated[
        str,
        typer.Option(metavar="PATH", help="Folder of the teacher; by default the recipe's namesake."),
    ] = "",
    gpu: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="h200, h100, a100, a100-40, l40s, 4090, a10g or l4; by default this machine's, or h100.",
        ),
    ] = "",
    memory_gb: Annotated[float, typer.Option(min=0, help="GPU memory in GB (1e9 bytes); 0: that GPU's own.")] = 0.0,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs, with one process each.")] = 1,
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1, help="Assumed fraction of the GPU's peak that is reached.")
    ] = 0.2,
    price: Annotated[float, typer.Option(min=0, help="Hourly price of a GPU.")] = 0.0,
    encoded: Annotated[bool, typer.Option("--encoded", help="Leave the text encoder out of the memory.")] = False,
    as_json: Json = False,
) -> None:
    """Estimate a recipe's memory, time and cost before it runs.

    Examples:
      sidlsg estimate --recipe sd15 --gpu h100 --gpus 8 --price 2.5
      sidlsg estimate --recipe sd15 --set batch=256 --gpu 4090
    """
    from sidlsg.cli.estimate_table import estimate_json, print_estimate
    from sidlsg.distil.estimate.devices import chosen_gpu
    from sidlsg.distil.estimate.estimate import estimate as stage
    from sidlsg.distil.estimate.fake_networks import shape_of
    from sidlsg.distil.recipes import recipe_with_changes

    values = recipe_with_changes(recipe, json.dumps(recipe_changes(recipe, set_)))
    shape = shape_of(teacher, recipe)
    found = stage(
        shape,
        values,
        chosen_gpu(gpu, memory_gb),
        world_size=gpus,
        text_encoder=0 if encoded else shape.text_encoder_parameters,
        mfu=mfu,
        report=(lambda _: None) if as_json else print,
    )
    if as_json:
        print(json.dumps(estimate_json(found, price), indent=1))
    else:
        print_estimate(found, shape.name, price)


def recipes(as_json: Json = False) -> None:
    """List the recipes with published results.

    Examples:
      sidlsg recipes
      sidlsg recipes --json
    """
    from sidlsg.distil.recipes import RECIPES

    if as_json:
        print(json.dumps([asdict(recipe) for recipe in RECIPES.values()], indent=1))
        return
    for recipe in RECIPES.values():
        kappas = ", ".join(f"{kappa:g}" for kappa in recipe.guidance.scales)
        adapter = f"; LoRA of rank {recipe.lora.rank}" if recipe.lora else ""
        steps = f", {recipe.steps} steps" if recipe.steps > 1 else ""
        images = f"{recipe.iterations * recipe.batch:,} images"
        print(f"{recipe.name:<18} {recipe.strategy} κ1..κ4 = {kappas}{steps}; {images}{adapter}")
        for row in recipe.published:
            print(f"{'':<18} published: FID {row.fid} CLIP {row.clip} at {row.images_seen:,.0f} images ({row.source})")
