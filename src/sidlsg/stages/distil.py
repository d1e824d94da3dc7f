"""The `distil` stage: a prompt set and a teacher in, a student's folder out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from sidlsg.distil import NUMERICS
from sidlsg.distil.alarms import Alarms
from sidlsg.distil.appearance import Appearance, teacher_images
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.estimate.estimate import check_fits
from sidlsg.distil.estimate.fake_networks import meta_unet
from sidlsg.distil.grids import GridSampler
from sidlsg.distil.identity import RunIdentity
from sidlsg.distil.layout import Layout, SlowdownDetector, candidates, choose_layout, fixed_layout
from sidlsg.distil.loop import Observer, StopRequest, TrainingRun, train
from sidlsg.distil.networks import set_matmul_precision
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.state import TrainingState
from sidlsg.distil.student.card import student_card
from sidlsg.distil.student.folder import copy_records, write_folder
from sidlsg.prompts.shards import read_prompts
from sidlsg.runtime.distributed import World, is_rank0, joined, started_as_many
from sidlsg.runtime.errors import InputError, StoppedError
from sidlsg.runtime.hardware import cpu_quota, device_name
from sidlsg.runtime.provenance import code_digest, git_commit, running_image
from sidlsg.storage.files import (
    atomic_folder,
    atomic_write,
    folder_lock,
    refuse_foreign,
    refuse_inside,
    require_writable,
)
from sidlsg.storage.records import PromptSet, Student, file_ref
from sidlsg.storage.uri import open_store, resolve_with_digest
from sidlsg.teacher.config import SCHEDULER, UNET, read_config, unet_config
from sidlsg.teacher.embeddings import open_embeddings
from sidlsg.teacher.folder import DIFFUSERS, check_folder, copy_licence, folder_digest
from sidlsg.teacher.images import Images
from sidlsg.teacher.pipeline import Teacher, as_input_error, check_optional, load_teacher
from sidlsg.teacher.source import unet_of

if TYPE_CHECKING:
    from sidlsg.distil.metrics import Exposed
    from sidlsg.registry.tracking.tracker import MlflowTracker

GRIDS = "grids"
FP16_EPS = 1e-6
"""Adam's eps at least, where gradients are of half precision."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a run may have besides, and does without."""

    embeddings: Path | None = None
    """Folder of an EmbeddingSet; None to encode prompts on the fly."""
    teacher_sha256: str = ""
    """Digest of the teacher's model files where the caller has found it; empty to compute it."""
    generator_from: str = ""
    """Place of a folder whose UNet the generator starts from, such as an earlier student's; empty for the teacher's."""
    accept_changes: bool = False
    """Whether to continue checkpoints of another recipe, teacher, prompt set, seed or version of the numerics."""
    held_out: Sequence[str] = ()
    """Prompts that evaluations along the way draw; needed where the recipe has `evaluate_every`."""
    judge: Path | None = None
    """The judge's file, for the same."""
    tracking_uri: str = ""
    """MLflow, to be told of the run's progress; empty for nowhere, or for the run that the environment names."""
    experiment: str = "sidlsg"
    """The experiment of a new MLflow run."""


def run_identity(
    recipe: Recipe, teacher_sha256: str, prompts_sha256: str, seed: int, generator_sha256: str = ""
) -> RunIdentity:
    """Everything that a checkpoint depends on."""
    parts = {
        **recipe.identity,
        "teacher": teacher_sha256,
        "prompts": prompts_sha256,
        "seed": str(seed),
        "code": NUMERICS,
    }
    return RunIdentity(parts | ({"generator_from": generator_sha256} if generator_sha256 else {}))


def run_name(recipe: Recipe, identity: RunIdentity) -> str:
    """A name for the run's checkpoints that no other run has, and that the same run finds again."""
    return f"{recipe.name}-{identity.key[:16]}"


def distil(
    prompts: Path,
    teacher: Path,
    output: Path,
    recipe: Recipe,
    seed: int,
    checkpoints: str | Path,
    report: Callable[[str], None],
    extras: Extras | None = None,
) -> Student:
    """Distil a teacher into a one-step student and export it; alone, or in each process that torchrun started.

    Args:
        prompts: folder of a PromptSet.
        teacher: folder of a `StableDiffusionPipeline` with safetensors weights.
        output: becomes the student's diffusers folder.
        recipe: all values of the run.
        seed: of every draw.
        checkpoints: a folder or an `s3://` prefix of this run alone; a run that was stopped goes on from there.
        report: receives lines for the user.
        extras: what else there is.

    Returns:
        The record that was saved in `output`.

    Raises:
        InputError: an input, the output folder or the checkpoints cannot be used.
        StoppedError: the process was asked to end; the same call goes on.
        AlarmError: an alarm ended the run.
    """
    extras = extras or Extras()
    if "://" not in str(checkpoints):
        checkpoints = Path(checkpoints).expanduser()
    refuse_foreign(output, Student.FILE)
    refuse_inside(output, prompts=prompts, teacher=teacher)
    if "://" not in str(checkpoints):
        refuse_inside(output, checkpoints=Path(checkpoints))
    if recipe.evaluate_every and extras.judge is None:
        raise InputError("the recipe has evaluate_every, which needs evaluation prompts and a judge; give both")
    check_folder(teacher)
    PromptSet.load(prompts)
    set_matmul_precision(recipe.precision)
    open_store(str(checkpoints))  # says what is wrong with the place
    config = unet_config(teacher)
    with as_input_error(teacher / UNET):
        meta_unet(config)
    settled = fixed_layout(recipe)
    layouts = candidates(config, recipe, cpu_quota()) if settled is None else [settled]
    said = report if is_rank0() else _silent
    layout = settled or choose_layout(layouts, config, recipe, said)
    pace = SlowdownDetector() if len(layouts) > 1 and layouts[0].threads == 1 else None
    stop = StopRequest()
    given = (prompts, teacher, output, recipe, seed, checkpoints, report, extras)
    # From the start: loading takes minutes, and an export that is asked to end is soon done.
    with stop.listening():
        while True:
            torch.set_num_threads(layout.threads)
            try:
                return _distil(*given, layout, pace, stop)
            except StoppedError:
                if stop.signalled or pace is None or not stop.slowed:
                    raise
            report(f"training slowed from {pace.best:.1f} to {pace.now:.1f} images/s: measuring the machine again")
            stop.slowed = False
            pace.begin()
            # A process that has run several threads cannot be forked for a measurement: its OpenMP pool would not
            # exist in the fork, which would hang. Several threads also slow down most on a busy machine.
            again = layouts if layout.threads == 1 else layouts[:1]
            layout = choose_layout(again, config, recipe, said)


def _distil(
    prompts: Path,
    teacher: Path,
    output: Path,
    recipe: Recipe,
    seed: int,
    checkpoints: str | Path,
    report: Callable[[str], None],
    extras: Extras,
    layout: Layout,
    pace: SlowdownDetector | None,
    stop: StopRequest,
) -> Student:
    """Distil from the newest checkpoint on, with a chosen layout; see `distil`."""
    prompt_set = PromptSet.load(prompts)
    with (
        joined(layout.processes) as world,
        _alone(world, str(checkpoints)),
        _metrics(world, recipe, report) as metrics,
    ):
        world.share(recipe.batch)
        if world.is_rank0:
            # Not after days of training.
            require_writable(output.parent)
            check_optional(teacher)
        loaded = load_teacher(teacher, text_device=world.device, sha256=extras.teacher_sha256)
        # Shards may make the text encoder needless; it is small beside what must fit.
        check_fits(
            loaded.unet.config,
            recipe,
            world.size,
            world.device,
            sum(p.numel() for p in loaded.encode.text_encoder.parameters()),
            report if world.is_rank0 else _silent,
        )
        origin, origin_sha256 = _origin(extras.generator_from, loaded)
        identity = run_identity(recipe, loaded.sha256, prompt_set.digest, seed, origin_sha256)
        saved = Checkpoints(
            place=str(checkpoints),
            run=identity,
            report=report,
            world=world,
            keep=recipe.keep_checkpoints,
            accept_changes=extras.accept_changes,
            count=None if metrics is None else metrics.metrics.saved,
        )
        work = output.parent / f".{output.name}.{GRIDS}" if saved.folder is None else saved.folder / GRIDS
        state = TrainingState.start(
            loaded.unet,
            recipe.lr,
            recipe.fake_score_lr,
            max(recipe.adam_eps, FP16_EPS) if recipe.precision == "fp16" else recipe.adam_eps,
            settings=recipe.settings,
            world=world,
            generator=origin,
            report=report,
        )
        count = None if metrics is None else metrics.metrics.alarmed
        run = _run(recipe, loaded, prompts, seed, saved, work, state, report, count, extras)
        run = replace(run, stop=stop, pace=pace)
        if world.device.type == "cpu" and not started_as_many():
            state.layout = str(layout)
        tracker = _tracker(extras, recipe, identity, loaded, prompt_set, seed, state, report)
        if metrics is not None:
            metrics.named(run_name(recipe, identity), "" if tracker is None else tracker.run_id)
        told = (tracker, None if metrics is None else metrics.metrics)
        observers: list[Observer] = [each for each in told if each is not None]
        try:
            train(recipe, state, replace(run, observers=observers))
            unet = student_unet(state, loaded.unet)
            student = None
            if world.is_rank0:
                student = _write(output, recipe, loaded, (prompts, extras.embeddings), seed, state, unet, work)
            # The others leave when all is written, and may not see the output's disk.
            record = world.gather(None if student is None else student.to_json())[0]
        except BaseException as error:
            if tracker is not None:
                tracker.failed(error)
            raise
        student = Student.from_json(record)
        if tracker is not None:
            tracker.finish(student)
        return student


def _silent(_: str) -> None:
    """What the leading process says already."""


@contextlib.contextmanager
def _metrics(world: World, recipe: Recipe, report: Callable[[str], None]) -> Iterator[Exposed | None]:
    """What Prometheus is told, by the leading process where the environment asks for it."""
    if not world.is_rank0:
        yield None
        return
    # Imported here: who is not asked needs no client of Prometheus.
    from sidlsg.distil.metrics import exposed

    with exposed(recipe, report) as metrics:
        yield metrics


@contextlib.contextmanager
def _alone(world: World, checkpoints: str) -> Iterator[None]:
    """Keep a second run out of a checkpoint folder, such as one whose processes outlived what started them.

    Not on S3, which has no lock that ends with its process.
    """
    if "://" in checkpoints or not world.is_rank0:
        yield
        return
    Path(checkpoints).mkdir(parents=True, exist_ok=True)
    with folder_lock(Path(checkpoints)):
        yield


def _origin(place: str, teacher: Teacher) -> tuple[UNet2DConditionModel | None, str]:
    """What the generator starts from and its digest, where that is not the teacher."""
    if not place:
        return None, ""
    folder, sha256 = resolve_with_digest(place, folder=DIFFUSERS)
    unet, shapes = unet_of(str(folder)), {name: p.shape for name, p in teacher.unet.named_parameters()}
    if {name: p.shape for name, p in unet.named_parameters()} != shapes:
        raise InputError(f"{place} has a UNet of another architecture than the teacher's; give one that came from it")
    ours, its = (_prediction_type(each) for each in (teacher.folder, folder))
    if ours != its:
        raise InputError(f"{place} predicts {its}, but the teacher {ours}; give a student that came from this teacher")
    return unet, sha256 or folder_digest(folder)


def _prediction_type(folder: Path) -> str:
    return str(read_config(folder, SCHEDULER).get("prediction_type", "epsilon"))


def _run(
    recipe: Recipe,
    teacher: Teacher,
    prompts: Path,
    seed: int,
    checkpoints: Checkpoints,
    grids: Path,
    state: TrainingState,
    report: Callable[[str], None],
    count_alarm: Callable[[str], None] | None,
    extras: Extras,
) -> TrainingRun:
    """What the training loop works with: text encoder and VAE stay where they are not in the way."""
    world = state.world
    schedule = teacher.schedule.to(world.device)
    prompt_set = PromptSet.load(prompts)
    encode = open_embeddings(
        extras.embeddings,
        prompt_set,
        lambda: read_prompts(prompts),
        teacher,
        recipe.text_states,
        world.device,
    )
    drawer = GridSampler(
        folder=grids if world.is_rank0 else None,
        vae=teacher.vae,
        schedule=schedule,
        encode=encode,
        prompt_count=prompt_set.count,
        latent_shape=teacher.latent_shape,
        t_init=recipe.t_init,
        seed=seed,
        at_once=recipe.micro_batch,
    )
    frozen = state.frozen(teacher.unet)
    call = state.call(frozen)
    alarms = Alarms(recipe, report, count_alarm)
    look, evaluation = None, None
    if recipe.on_alarm != "off":
        few_steps = teacher_images(call, drawer, teacher.encode.uncond, recipe.guidance.kappa4)
        cell = few_steps.shape[1] // teacher.latent_shape[1]
        appearance = Appearance(recipe, few_steps, drawer.images(call), cell)

        def look(images: Images, iteration: int) -> str | None:
            return alarms.heard(appearance.look(images), iteration)

    if recipe.evaluate_every and extras.judge is not None:
        from sidlsg.stages.distil_scores import evaluation_during_training

        # Sharded networks run in all processes at once, each on the same images.
        sharing = World(device=world.device) if recipe.parallel == "fsdp" else world
        evaluation = evaluation_during_training(recipe, teacher, call, schedule, extras.held_out, extras.judge, sharing)
    return TrainingRun(
        teacher=frozen,
        schedule=schedule,
        latent_shape=teacher.latent_shape,
        prompt_count=prompt_set.count,
        encode=encode,
        seed=seed,
        checkpoints=checkpoints,
        report=report,
        grids=drawer,
        evaluation=evaluation,
        alarms=alarms,
        look=look,
    )


def _tracker(
    extras: Extras,
    recipe: Recipe,
    identity: RunIdentity,
    teacher: Teacher,
    prompt_set: PromptSet,
    seed: int,
    state: TrainingState,
    report: Callable[[str], None],
) -> MlflowTracker | None:
    """What tells MLflow, in the leading process where there is an address."""
    if not state.world.is_rank0 or not (extras.tracking_uri or os.environ.get("MLFLOW_RUN_ID")):
        return None
    # Imported here: MLflow takes seconds, and many runs do without.
    from sidlsg.distil.estimate.speed import mfu_of
    from sidlsg.registry.tracking.runs import Training, tracking_address
    from sidlsg.registry.tracking.tracker import open_tracker

    training = Training(
        key=identity.key,
        name=run_name(recipe, identity),
        teacher_sha256=teacher.sha256,
        prompts_sha256=prompt_set.digest,
        params=training_params(recipe, seed),
    )
    mfu = mfu_of(teacher.unet.config, recipe, state.world.size, state.world.device)
    tracker = open_tracker(tracking_address(extras.tracking_uri), extras.experiment, training, report, mfu)
    report(f"MLflow follows this training in run {tracker.run_id}")
    return tracker


def training_params(recipe: Recipe, seed: int) -> dict[str, str]:
    """The parameters of a training's run in MLflow."""
    from sidlsg.registry.run_log import recipe_params

    return recipe_params(
        recipe.values(),
        recipe=recipe.name,
        strategy=recipe.strategy,
        kappas=recipe.guidance.scales,
        seed=seed,
        t_init=recipe.t_init,
    )


def student_unet(state: TrainingState, like: Any) -> UNet2DConditionModel:
    """The EMA as a float32 network in the host's memory, put together where processes have parts of it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(state.ema, options=options)
    unet = UNet2DConditionModel.from_config(like.config)
    if weights:  # only the leading process has them all
        unet.load_state_dict(weights)
    return unet


def _write(
    output: Path,
    recipe: Recipe,
    teacher: Teacher,
    made_from: tuple[Path, Path | None],
    seed: int,
    state: TrainingState,
    unet: UNet2DConditionModel,
    grids: Path,
) -> Student:
    with atomic_folder(output, Student.FILE) as folder:
        files = write_folder(teacher, unet, recipe.t_init, recipe.export_dtype, folder)
        log = _write_rows(folder / "training_log.jsonl", state.log)
        evaluations = _write_rows(folder / "evaluations.jsonl", state.evaluations)
        pictures = []
        for source in sorted(grids.glob("*.png")):
            target = folder / GRIDS / source.name
            target.parent.mkdir(exist_ok=True)
            pictures.append(Path(shutil.copyfile(source, target)))
        hardware = device_name(state.device)
        student = Student(
            recipe=recipe.name,
            recipe_values=recipe.values(),
            strategy=recipe.strategy,
            kappas=recipe.guidance.scales,
            teacher_sha256=teacher.sha256,
            prompts_sha256=PromptSet.load(made_from[0]).digest,
            package_sha256=code_digest(),
            seed=seed,
            t_init=recipe.t_init,
            iterations=state.iteration,
            images_seen=state.images_seen,
            nan_samples=state.nan_samples,
            seconds=round(state.seconds, 1),
            hardware=hardware if state.world.size == 1 else f"{state.world.size} × {hardware}",
            model=tuple(file_ref(path, folder) for path in files),
            training_log=file_ref(log, folder),
            evaluations=file_ref(evaluations, folder) if state.evaluations else None,
            grids=tuple(file_ref(path, folder) for path in pictures),
            licence=copy_licence(teacher.folder, folder),
            lineage=copy_records(*made_from, folder),
            git_commit=git_commit(),
            image=running_image(),
        )
        student.save(folder)
        atomic_write(folder / "README.md", student_card(student))
    return student


def _write_rows(path: Path, rows: Sequence[dict[str, float]]) -> Path:
    if rows:
        atomic_write(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    return path
