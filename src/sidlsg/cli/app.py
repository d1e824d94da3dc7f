"""The command line: one command a stage, `run` for all of them, and a few beside. Heavy imports wait for a command."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sidlsg import __version__
from sidlsg.cli import evaluation as commands
from sidlsg.cli import kubeflow as profile_commands
from sidlsg.cli import kubeflow as trainjob_commands
from sidlsg.cli import kubeflow as trigger_commands
from sidlsg.cli import pipelines as run_commands
from sidlsg.cli import prompts as prompt_commands
from sidlsg.cli import registry as registry_commands
from sidlsg.cli import servers as service_commands
from sidlsg.cli import serving as serving_commands
from sidlsg.cli import teachers as convert_commands
from sidlsg.cli import training as distil_commands
from sidlsg.cli import webhooks as service_trigger_commands
from sidlsg.cli.options import (
    GateRulesFile,
    HeldOut,
    JudgeFile,
    Kappa,
    KeepImages,
    Processes,
    Protocols,
    Recipe,
    RunSeed,
    Scale,
    Seed,
    Set,
    Strategy,
    TeacherLayout,
    TeacherPlace,
    TeacherSettings,
    Threads,
    Weights,
    recipe_changes,
    rejection,
)
from sidlsg.runtime.errors import AlarmError, SidlsgError, StoppedError, VerdictError
from sidlsg.runtime.provenance import headed, say
from sidlsg.storage.uri import HELD_OUT, JUDGE, PROMPTS, TEACHER

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn a pretrained Stable Diffusion into a one-step generator (SiD-LSG), evaluated, registered and promoted.",
)

DISK_FULL = "no space left on the device of {}; free some, or give another folder, and run the same command again"
LONGEST = 3000
"""Characters of an error's message."""
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended."""


def main() -> None:
    """Run the command line: errors become one line on standard error, and an exit code."""
    # The libraries' import-time advice is not for users of this program.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        code = app(standalone_mode=False)
    except SidlsgError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(DISK_FULL.format(f"{error.filename or 'the output'}"), 1)
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except Exception as error:  # the parser's own errors have no stable import path
        if os.strerror(errno.ENOSPC) in str(error):  # safetensors has an error type of its own for it
            _fail(DISK_FULL.format("the output"), 1)
        if not hasattr(error, "format_message"):
            raise
        # Without a command the parser has printed the help, and has nothing more to say.
        if not error.format_message():
            sys.exit(2)
        _fail(error.format_message(), getattr(error, "exit_code", 2))
    # The parser itself turns an interrupt into this return value, and a command's `typer.Exit` into its code.
    if code == INTERRUPTED:
        _fail("interrupted; the same command again goes on from the last checkpoint", INTERRUPTED)
    if isinstance(code, int) and code:
        sys.exit(code)


def _fail(message: str, code: int) -> None:
    process = _process()
    # What all processes that train together do together, the leading one says.
    if not process or code not in (AlarmError.exit_code, StoppedError.exit_code):
        text = " ".join(message.split())
        if len(text) > LONGEST:  # it repeats a value that was given; what to do stands at the end
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        line = f"{f'process {process}: ' if process else ''}error: {text}"
        print(headed(line), file=sys.stderr)
    sys.exit(code)


def _process() -> int:
    """Which one of several processes this is, where torchrun started it; 0 leads."""
    return int(os.environ.get("RANK", "0"))


app.add_typer(convert_commands.app, name="convert")
app.add_typer(commands.images, name="images")
app.add_typer(service_commands.app, name="services")
app.add_typer(service_trigger_commands.app, name="triggers")
app.command()(prompt_commands.curate)
app.command()(commands.protocols)
app.command()(commands.evaluate)
app.command()(run_commands.sweep)
app.command()(run_commands.evaluate_version)
app.command("compile")(run_commands.compile_)
app.command()(profile_commands.profile_images)
app.add_typer(registry_commands.registry, name="registry")
app.command()(registry_commands.register)
app.command()(registry_commands.register_teacher)
app.command()(registry_commands.gate)
app.command()(registry_commands.gate_rules)
app.command()(registry_commands.approve)
app.command()(registry_commands.promote)
app.command()(registry_commands.transfer)
app.command()(registry_commands.rollback)
app.command(hidden=True)(trainjob_commands.distil_node)
app.command(hidden=True)(trainjob_commands.distil_node_process)
app.command(hidden=True)(distil_commands.distil_process)
app.command()(serving_commands.serve)
app.command()(trigger_commands.submit)
app.command()(trigger_commands.schedule)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(f"sidlsg {__version__}")
        raise typer.Exit


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="Folder of the run; the same one again continues or reuses it.")] = Path(
        "runs/demo"
    ),
    recipe: Recipe = "tiny",
    strategy: Strategy = None,
    kappa: Kappa = None,
    scale: Scale = [],  # noqa: B006 - typer reads the default and never changes it
    set_: Set = [],  # noqa: B006
    seed: RunSeed = "0",
    prompts: Annotated[
        str, typer.Option(help="Tables of captions, as `sidlsg curate --source` takes them, with semicolons between.")
    ] = PROMPTS,
    held_out: HeldOut = HELD_OUT,
    teacher: TeacherPlace = TEACHER,
    teacher_layout: TeacherLayout = "",
    judge: JudgeFile = JUDGE,
    model_name: Annotated[str, typer.Option(help="Registered model's name.")] = "sidlsg-tiny",
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow; by default SQLite and a folder inside the run's folder.")
    ] = "",
    embeddings_gb: Annotated[
        float, typer.Option(min=0, help="Disk for prompts' text states; 0 to encode during training.")
    ] = 0.0,
    hourly_price: Annotated[
        float,
        typer.Option(
            min=0, help="Of a stage that --prices does not name, for the costs in the report and on the version."
        ),
    ] = 0.0,
    prices: Annotated[
        str,
        typer.Option(metavar="JSON", help='Prices an hour by stage, such as {"distil": 12.5, "curate": 0.4}.'),
    ] = "{}",
    protocol: Protocols = [],  # noqa: B006
    weights: Weights = None,
    teacher_setting: TeacherSettings = [],  # noqa: B006
    keep_images: KeepImages = "",
    gate_rules: GateRulesFile = None,
    processes: Processes = None,
    threads: Threads = None,
) -> None:
    """The whole way, from prompts to a promoted generator and its report, through Kubeflow Pipelines' local runner.

    Exit code 0: promoted, or already the champion. 3: the gate said no.
    """
    from sidlsg.cli.tables import print_summary
    from sidlsg.distil.recipes import recipe_with_changes
    from sidlsg.kubeflow.local.execution import machine_line
    from sidlsg.kubeflow.local.runs import run_local
    from sidlsg.stages.requests import RunRequest

    changes = json.dumps(recipe_changes(strategy, kappa, scale, set_, processes, threads))
    values = recipe_with_changes(recipe, changes)
    request = RunRequest(
        run_dir=output,
        recipe=recipe,
        changes=changes,
        seed=seed,
        prompts=prompts,
        held_out=held_out,
        teacher=teacher,
        teacher_layout=teacher_layout,
        judge=judge,
        model_name=model_name,
        tracking_uri=tracking_uri,
        embeddings_gb=embeddings_gb,
        hourly_price=hourly_price,
        prices=prices,
        protocols=tuple(protocol),
        weights=weights,
        teacher_settings=tuple(teacher_setting),
        keep_images=keep_images,
        gate_rules=gate_rules,
    )
    print(machine_line(values))
    result = run_local(request)
    print_summary(result)
    if not result.verdict.passed:
        raise VerdictError(rejection(result.verdict))


@app.command()
def encode(
    prompts: Annotated[Path, typer.Option(help="Folder of a prompt set.")],
    output: Annotated[Path, typer.Option(help="Folder of the text states.")],
    teacher: TeacherPlace = TEACHER,
    teacher_layout: TeacherLayout = "",
    dtype: Annotated[str, typer.Option(help="float16 or float32; not less than the recipe's text_states.")] = "float16",
    budget_gb: Annotated[
        float, typer.Option(min=0, help="Most gigabytes to write; a larger set is left to training.")
    ] = 100.0,
) -> None:
    """Encode prompts once, for training without the text encoder; the same command again continues.

    It pays where the text encoder's memory on the GPU matters, or where many runs share a prompt set.
    """
    from sidlsg.stages.encode import encode as stage
    from sidlsg.teacher.source import teacher_folder

    record = stage(prompts, teacher_folder(teacher, layout=teacher_layout), output, dtype, budget_gb, say)
    written = len(record.shards)
    print(f"{f'{written:,}' if written else 'no'} shard{'' if written == 1 else 's'} in {output}")


@app.command()
def distil(
    prompts: Annotated[Path, typer.Option(help="Folder of a prompt set.")],
    output: Annotated[Path, typer.Option(help="Folder of the student.")],
    checkpoints: Annotated[str, typer.Option(help="Folder or s3:// prefix where training state is kept.")],
    teacher: TeacherPlace = TEACHER,
    teacher_layout: TeacherLayout = "",
    recipe: Recipe = "tiny",
    strategy: Strategy = None,
    kappa: Kappa = None,
    scale: Scale = [],  # noqa: B006
    set_: Set = [],  # noqa: B006
    seed: Seed = 0,
    embeddings: Annotated[
        Path | None, typer.Option(help="Folder of text states from `sidlsg encode`; without, prompts are encoded here.")
    ] = None,
    generator_from: Annotated[
        str, typer.Option(help="Folder of a student whose UNet the generator starts from, not the teacher's.")
    ] = "",
    accept_changes: Annotated[
        bool, typer.Option(help="Go on from checkpoints of another recipe, teacher, prompt set, seed or numerics.")
    ] = False,
    held_out: HeldOut = HELD_OUT,
    judge: JudgeFile = JUDGE,
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow, told of the training while it goes on: http(s) address or sqlite:///FILE.")
    ] = "",
    experiment: Annotated[str, typer.Option(help="MLflow experiment of a new run; the model's name.")] = "sidlsg",
    processes: Processes = None,
    threads: Threads = None,
) -> None:
    """Distil a teacher into a one-step student; the same command again continues a run that was stopped.

    Under torchrun, each process takes its share of every batch: torchrun --nproc-per-node 8 -m sidlsg distil ...

    Exit code 4: an alarm ended the run. 75: it was asked to end (SIGTERM) and saved its state first.
    """
    from sidlsg.distil.recipes import recipe_with_changes

    values = recipe_with_changes(recipe, json.dumps(recipe_changes(strategy, kappa, scale, set_, processes, threads)))
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.stages.distil import Extras
    from sidlsg.stages.distil import distil as stage
    from sidlsg.storage.uri import resolve
    from sidlsg.teacher.source import checked_teacher

    evaluated = values.evaluate_every > 0
    extras = Extras(
        embeddings=embeddings,
        generator_from=generator_from,
        accept_changes=accept_changes,
        held_out=read_held_out(resolve(held_out)) if evaluated else (),
        judge=resolve(judge) if evaluated else None,
        tracking_uri=tracking_uri,
        experiment=experiment,
    )
    folder, sha256 = checked_teacher(teacher, layout=teacher_layout)
    extras = replace(extras, teacher_sha256=sha256)
    student = stage(prompts, folder, output, values, seed, checkpoints, say, extras)
    if not _process():
        say(f"student of {student.images_seen:,} images in {output}")


@app.command()
def generate(
    student: Annotated[Path, typer.Argument(help="Folder of a student.")],
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    output: Annotated[Path, typer.Option(help="Folder that receives the PNGs.")] = Path("pictures"),
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler; the student is made for one.")] = 1,
) -> None:
    """Draw pictures with a student: picture i has seed SEED + i, whatever COUNT is."""
    from PIL import Image

    from sidlsg.distil.student.generation import generate as draw
    from sidlsg.runtime.hardware import sampling_threads, set_threads
    from sidlsg.teacher.images import save_png

    set_threads(sampling_threads(student / "unet"))
    seeds = range(seed, seed + count)
    # One at a time: the last bit of a picture would else depend on how many are drawn with it.
    images = draw(student, [prompt] * count, seeds, steps, batch=1)
    for image, number in zip(images, seeds, strict=True):
        path = output / f"{number:06d}.png"
        save_png(Image.fromarray(image), path)
        print(path)


@app.command()
def digest(
    place: Annotated[str, typer.Argument(help="A file or a teacher's folder: local, bundled:NAME or s3://BUCKET/KEY.")],
) -> None:
    """Print the SHA-256 that pins an input: every option that takes a place also takes PLACE@sha256:DIGEST."""
    from sidlsg.storage.uri import place_digest

    print(place_digest(place))


@app.command()
def estimate(
    recipe: Recipe = "tiny",
    set_: Set = [],  # noqa: B006
    teacher: Annotated[
        str, typer.Option(help="Folder of the teacher; by default what the recipe is named after.", show_default=False)
    ] = "",
    gpu: Annotated[
        str,
        typer.Option(
            help="h200, h100, a100, a100-40, l40s, 4090, a10g or l4; by default the one here, else h100.",
            show_default=False,
        ),
    ] = "",
    memory_gb: Annotated[
        float, typer.Option(min=0, help="The GPU's memory in GB (1e9 bytes), where it is not the table's; 0 for that.")
    ] = 0.0,
    gpus: Annotated[int, typer.Option(min=1, help="How many, with a process each.")] = 1,
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the GPU's peak that is reached: an assumption.")
    ] = 0.2,
    price: Annotated[float, typer.Option(min=0, help="Of one GPU for an hour.")] = 0.0,
    encoded: Annotated[bool, typer.Option("--encoded", help="Prompts are encoded before training.")] = False,
) -> None:
    """Say what a recipe needs before it runs: memory by part, what would fit, time and money."""
    from sidlsg.cli.estimate_table import print_estimate
    from sidlsg.distil.estimate.devices import chosen_gpu
    from sidlsg.distil.estimate.estimate import estimate as stage
    from sidlsg.distil.recipes import recipe_with_changes
    from sidlsg.teacher.architectures import shape_of

    values = recipe_with_changes(recipe, json.dumps(recipe_changes(None, None, [], set_)))
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


@app.command()
def recipes() -> None:
    """List the recipes, with the results that others published for their values."""
    from sidlsg.distil.recipes import RECIPES

    for recipe in RECIPES.values():
        kappas = ", ".join(f"{kappa:g}" for kappa in recipe.guidance.scales)
        print(f"{recipe.name:<18} {recipe.strategy} κ1..κ4 = {kappas}; {recipe.iterations * recipe.batch:,} images")
        for row in recipe.published:
            print(f"{'':<18} published: FID {row.fid} CLIP {row.clip} at {row.images_seen:,.0f} images ({row.source})")


@app.command()
def teach(
    output: Annotated[Path, typer.Option(help="Receives tiny-sd/, judge/ and prompts/, as assets/ holds them.")],
    work: Annotated[Path, typer.Option(help="Training state; the same command again continues from it.")] = Path(
        ".cache/teach"
    ),
) -> None:
    """Make the bundled teacher, its judge and the bundled prompts from their recipe."""
    from sidlsg.bundled.assets import teach as make
    from sidlsg.bundled.training import TINY

    began = time.monotonic()
    make(output, work, TINY, print)
    print(f"made {output} in {(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
