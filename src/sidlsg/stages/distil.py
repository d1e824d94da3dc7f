"""The `distil` stage: distils a teacher on a prompt set and writes the student's folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sidlsg.distil.alarms import Alarms
from sidlsg.distil.appearance import Appearance, teacher_images
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.cpu_layout import Layout, SlowdownDetector, candidates, choose_layout, fixed_layout
from sidlsg.distil.estimate.estimate import check_fits
from sidlsg.distil.estimate.fake_networks import meta_network, shape_in
from sidlsg.distil.few_steps import check_stock_steps
from sidlsg.distil.grids import GridSampler
from sidlsg.distil.loop import Observer, StopRequest, TrainingRun, train
from sidlsg.distil.lora import lora_config
from sidlsg.distil.networks import set_matmul_precision
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.run_identity import RunIdentity, run_identity, run_name
from sidlsg.distil.state import TrainingState
from sidlsg.distil.student.card import student_card
from sidlsg.distil.student.folder import copy_records, write_folder
from sidlsg.distil.student.lora_file import StudentWeights, student_weights, write_lora_file
from sidlsg.prompts.shards import read_prompts
from sidlsg.runtime.distributed import World, is_rank0, joined, started_as_many
from sidlsg.runtime.errors import InputError, StoppedError
from sidlsg.runtime.hardware import cpu_quota, device_name
from sidlsg.runtime.provenance import code_digest, git_commit, running_image
from sidlsg.stages.distil_inputs import open_real_images, real_images_digest, require_both, starting_network
from sidlsg.storage.files import (
    atomic_folder,
    atomic_write,
    folder_lock,
    refuse_foreign,
    refuse_inside,
    require_writable,
)
from sidlsg.storage.real_image_set import real_images_of
from sidlsg.storage.records import PromptSet, Student, file_ref
from sidlsg.storage.uri import open_store
from sidlsg.teacher.architectures import Architecture
from sidlsg.teacher.config import read_configs
from sidlsg.teacher.embeddings import open_embeddings
from sidlsg.teacher.folder import check_folder
from sidlsg.teacher.images import Images
from sidlsg.teacher.licence import copy_licence
from sidlsg.teacher.pipeline import Teacher, check_optional, load_teacher

if TYPE_CHECKING:
    from sidlsg.distil.metrics import TrainingMetrics
    from sidlsg.registry.tracking.tracker import MlflowTracker

GRIDS = "grids"
FP16_EPS = 1e-6
"""Minimum of Adam's eps for half-precision gradients."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Optional inputs of a run."""

    embeddings: Path | None = None
    """Folder of an EmbeddingSet; None to encode prompts during training."""
    teacher_sha256: str = ""
    """Digest of the teacher's model files, if the caller has computed it."""
    real_images: Path | None = None
    """Folder of a RealImageSet, for the recipe's adversarial term."""
    generator_from: str = ""
    """URI of a folder whose network the generator starts from, such as a student's; empty for the teacher's."""
    accept_changes: bool = False
    """Whether to resume from checkpoints of another recipe, teacher, prompt set, seed or version of the numerics."""
    held_out: Sequence[str] = ()
    """Prompts of evaluations during training; required if the recipe has `evaluate_every`."""
    judge: Path | None = None
    """The judge's file, for evaluations during training."""
    tracking_uri: str = ""
    """MLflow's address; empty for no MLflow, or for the server of the run that the environment names."""
    experiment: str = "sidlsg"
    """The experiment of a new MLflow run."""


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
    """Distil a teacher into a student of one step or a few, and export it; under torchrun, call it in each process.

    Args:
        prompts: folder of a PromptSet.
        teacher: folder of a family's pipeline with safetensors weights.
        output: becomes the student's diffusers folder.
        recipe: all values of the run.
        seed: of all random numbers.
        checkpoints: a folder or an `s3://` prefix for this run only; a stopped run resumes from it.
        report: receives lines for the user.
        extras: optional inputs.

    Raises:
        InputError: an input, the output folder or the checkpoints cannot be used.
        StoppedError: the process was asked to end; the same call resumes.
        AlarmError: an alarm ended the run.
    """
    extras = extras or Extras()
    on_disk = "://" not in str(checkpoints)
    uri = str(Path(checkpoints).expanduser()) if on_disk else str(checkpoints)
    refuse_foreign(output, Student.FILE)
    refuse_inside(output, prompts=prompts, teacher=teacher, **({"checkpoints": Path(uri)} if on_disk else {}))
    if recipe.evaluate_every and extras.judge is None:
        raise InputError("the recipe has evaluate_every, which needs evaluation prompts and a judge; give both")
    if recipe.lora is not None and extras.generator_from:
        raise InputError("adapters start at the teacher: leave --generator-from out, or train all weights (adapter={})")
    require_both(recipe, extras.real_images)
    check_folder(teacher)
    prompt_set = PromptSet.load(prompts)
    set_matmul_precision(recipe.precision)
    shape = shape_in(teacher, str(teacher))
    check_stock_steps(shape.family, recipe.few_steps, recipe.name)
    if recipe.lora is not None:
        lora_config(meta_network(shape.config, shape.family), recipe.lora)  # raises where a target matches nothing
    open_store(uri)  # raises where it cannot be used, and makes the folder
    settled = fixed_layout(recipe)
    layouts = candidates(shape, recipe, cpu_quota()) if settled is None else [settled]
    report_once = report if is_rank0() else lambda _: None
    for remark in shape.family.remarks(read_configs(teacher)):
        report_once(remark)
    layout = settled or choose_layout(layouts, shape, recipe, report_once)
    slowdown = SlowdownDetector() if len(layouts) > 1 and layouts[0].threads == 1 else None
    stop = StopRequest()
    job = _Job(prompts, prompt_set, teacher, shape, output, recipe, seed, uri, report, extras, stop, slowdown)
    # Listen from the start: loading takes minutes, and an export ends soon anyway.
    with stop.listening():
        while True:
            torch.set_num_threads(layout.threads)
            try:
                return job.run(layout)
            except StoppedError:
                if stop.signalled or slowdown is None or not stop.slowed:
                    raise
            report(
                f"training slowed from {slowdown.best:.1f} to {slowdown.now:.1f} images/s: measuring the machine again"
            )
            stop.slowed = False
            slowdown.begin()
            # A process that has run several threads cannot be forked for a measurement: its OpenMP pool would not
            # exist in the fork, which would hang. Several threads also slow down most on a busy machine.
            again = layouts if layout.threads == 1 else layouts[:1]
            layout = choose_layout(again, shape, recipe, report_once)


@dataclass(frozen=True)
class _Job:
    """The checked arguments of one call of `distil`."""

    prompts: Path
    prompt_set: PromptSet
    teacher: Path
    shape: Architecture
    output: Path
    recipe: Recipe
    seed: int
    checkpoints: str
    report: Callable[[str], None]
    extras: Extras
    stop: StopRequest
    slowdown: SlowdownDetector | None

    def run(self, layout: Layout) -> Student:
        """Resume from the newest checkpoint, distil, and export."""
        recipe, extras = self.recipe, self.extras
        with contextlib.ExitStack() as stack:
            world = stack.enter_context(joined(layout.processes))
            world.share(recipe.batch)  # raises where the batch does not divide
            metrics = None
            if world.is_rank0:
                # Checked now rather than after days of training.
                require_writable(self.output.parent)
                check_optional(self.teacher)
                if "://" not in self.checkpoints:
                    # Keeps out a second run, and processes whose parent has ended. S3 has no such lock.
                    Path(self.checkpoints).mkdir(parents=True, exist_ok=True)
                    stack.enter_context(folder_lock(Path(self.checkpoints)))
                # Imported here: runs without Prometheus do not need its client.
                from sidlsg.distil.metrics import exposed

                metrics = stack.enter_context(exposed(recipe, self.report))
            teacher = load_teacher(self.teacher, text_device=world.device, sha256=extras.teacher_sha256)
            # With stored embeddings the text encoder may not be needed, but it is small compared with the rest.
            check_fits(
                self.shape,
                recipe,
                world.size,
                world.device,
                teacher.encode.parameters,
                self.report if world.is_rank0 else lambda _: None,
            )
            origin, origin_sha256 = starting_network(extras.generator_from, teacher)
            identity = run_identity(
                recipe,
                teacher.sha256,
                self.prompt_set.digest,
                self.seed,
                origin_sha256,
                real_images_digest(extras.real_images),
            )
            state = TrainingState.start(
                teacher.network,
                recipe.lr,
                recipe.fake_score_lr,
                max(recipe.adam_eps, FP16_EPS) if recipe.precision == "fp16" else recipe.adam_eps,
                settings=recipe.settings,
                world=world,
                generator=origin,
                report=self.report,
                seed=self.seed,
            )
            if world.device.type == "cpu" and not started_as_many():
                state.layout = str(layout)
            checkpoints = Checkpoints(
                uri=self.checkpoints,
                run=identity,
                report=self.report,
                world=world,
                keep=recipe.keep_checkpoints,
                accept_changes=extras.accept_changes,
                count=None if metrics is None else metrics.saved,
            )
            hidden = self.output.with_name(f".{self.output.name}.{GRIDS}")
            grids = hidden if checkpoints.folder is None else checkpoints.folder / GRIDS
            run = self._training_run(teacher, checkpoints, grids, state, metrics)
            tracker = self._tracker(identity, teacher, world)
            if metrics is not None:
                metrics.named(run_name(recipe, identity), "" if tracker is None else tracker.run_id)
            observers: list[Observer] = [each for each in (tracker, metrics) if each is not None]
            try:
                train(recipe, state, replace(run, observers=observers))
                weights = student_weights(teacher, state)
                written = _write(self, teacher, state, weights, grids) if world.is_rank0 else None
                # The other ranks wait until all is written; they may not see the output's disk.
                student: Student = world.gather(written)[0]
            except BaseException as error:
                if tracker is not None:
                    tracker.failed(error)
                raise
            if tracker is not None:
                tracker.finish(student)
            return student

    def _training_run(
        self,
        teacher: Teacher,
        checkpoints: Checkpoints,
        grids: Path,
        state: TrainingState,
        metrics: TrainingMetrics | None,
    ) -> TrainingRun:
        recipe, extras, world = self.recipe, self.extras, state.world
        schedule = teacher.schedule.to(world.device)
        encode = open_embeddings(
            extras.embeddings,
            self.prompt_set,
            lambda: read_prompts(self.prompts),
            teacher,
            recipe.text_states,
            world.device,
        )
        sampler = GridSampler(
            folder=grids if world.is_rank0 else None,
            vae=teacher.vae,
            schedule=schedule,
            encode=encode,
            prompt_count=self.prompt_set.count,
            latent_shape=teacher.latent_shape,
            steps=recipe.few_steps,
            seed=self.seed,
            at_once=recipe.micro_batch,
        )
        real_images = open_real_images(extras.real_images, teacher, recipe.text_states, world.device)
        frozen = state.frozen(teacher.network)
        call = state.call(frozen)
        alarms = Alarms(recipe, self.report, None if metrics is None else metrics.alarmed)
        check_images, evaluation = None, None
        if recipe.on_alarm != "off":
            few_steps = teacher_images(call, sampler, teacher.encode.uncond, recipe.guidance.kappa4)
            cell = few_steps.shape[1] // teacher.latent_shape[1]
            appearance = Appearance(recipe, few_steps, sampler.images(call), cell)

            def check_images(images: Images, iteration: int) -> str | None:
                return alarms.raise_new(appearance.check(images), iteration)

        if recipe.evaluate_every and extras.judge is not None:
            from sidlsg.stages.distil_scores import evaluation_during_training

            # Sharded networks run in all processes together, so each process samples the same images.
            sharing = World(device=world.device) if recipe.parallel == "fsdp" else world
            evaluation = evaluation_during_training(
                recipe, teacher, call, schedule, extras.held_out, extras.judge, sharing
            )
        return TrainingRun(
            teacher=frozen,
            schedule=schedule,
            latent_shape=teacher.latent_shape,
            prompt_count=self.prompt_set.count,
            encode=encode,
            seed=self.seed,
            checkpoints=checkpoints,
            report=self.report,
            real_images=real_images,
            grids=sampler,
            evaluation=evaluation,
            alarms=alarms,
            check_images=check_images,
            is_slow=self.slowdown,
            stop=self.stop,
        )

    def _tracker(self, identity: RunIdentity, teacher: Teacher, world: World) -> MlflowTracker | None:
        """The MLflow tracker on rank 0, if an address is given; otherwise None."""
        uri = self.extras.tracking_uri
        if not world.is_rank0 or not (uri or os.environ.get("MLFLOW_RUN_ID")):
            return None
        # Imported here: MLflow takes seconds, and many runs do not use it.
        from sidlsg.distil.estimate.speed import mfu_of
        from sidlsg.registry.tracking.runs import Training, tracking_address
        from sidlsg.registry.tracking.tracker import open_tracker

        training = Training(
            key=identity.key,
            name=run_name(self.recipe, identity),
            teacher_sha256=teacher.sha256,
            prompts_sha256=self.prompt_set.digest,
            params=training_params(self.recipe, self.seed),
        )
        mfu = mfu_of(self.shape, self.recipe, world.size, world.device)
        tracker = open_tracker(tracking_address(uri), self.extras.experiment, training, self.report, mfu)
        self.report(f"MLflow follows this training in run {tracker.run_id}")
        return tracker


def training_params(recipe: Recipe, seed: int) -> dict[str, str]:
    """The parameters of a training run in MLflow."""
    from sidlsg.registry.run_log import recipe_params

    return recipe_params(recipe.values(), recipe=recipe.name, kappas=recipe.guidance.scales, seed=seed)


def _write(job: _Job, teacher: Teacher, state: TrainingState, weights: StudentWeights, grids: Path) -> Student:
    recipe = job.recipe
    with atomic_folder(job.output, Student.FILE) as folder:
        files = write_folder(teacher, weights.network, recipe.few_steps, recipe.export_dtype, folder)
        if weights.adapter:
            files.append(write_lora_file(teacher.family, weights.adapter, recipe.export_dtype, folder))
        log = _write_rows(folder / "training_log.jsonl", state.log)
        evaluations = _write_rows(folder / "evaluations.jsonl", state.evaluations)
        if images := sorted(grids.glob("*.png")):
            (folder / GRIDS).mkdir()
        copies = [Path(shutil.copyfile(file, folder / GRIDS / file.name)) for file in images]
        hardware = device_name(state.device)
        student = Student(
            recipe=recipe.name,
            recipe_values=recipe.values(),
            strategy=recipe.strategy,
            kappas=recipe.guidance.scales,
            teacher_sha256=teacher.sha256,
            prompts_sha256=job.prompt_set.digest,
            package_sha256=code_digest(),
            seed=job.seed,
            t_init=recipe.t_init,
            iterations=state.iteration,
            images_seen=state.images_seen,
            nan_samples=state.nan_samples,
            seconds=round(state.seconds, 1),
            hardware=f"{state.world.size} × {hardware}" if state.world.size > 1 else hardware,
            model=tuple(file_ref(path, folder) for path in files),
            training_log=file_ref(log, folder),
            evaluations=file_ref(evaluations, folder) if state.evaluations else None,
            grids=tuple(file_ref(path, folder) for path in copies),
            licence=copy_licence(teacher.folder, folder),
            lineage=copy_records(job.prompts, job.extras.embeddings, teacher.folder, folder, job.extras.real_images),
            git_commit=git_commit(),
            image=running_image(),
        )
        student.save(folder)
        atomic_write(folder / "README.md", student_card(student, teacher, real_images_of(student, folder)))
    return student


def _write_rows(path: Path, rows: Sequence[dict[str, float]]) -> Path:
    if rows:
        atomic_write(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    return path
