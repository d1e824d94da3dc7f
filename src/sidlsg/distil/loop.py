"""The training loop: counts iterations, schedules the learning rate, logs, evaluates, saves and stops."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from sidlsg.distil.adversarial import Adversary, RealImages, feature_block_of
from sidlsg.distil.alarms import Alarms, diagnosis
from sidlsg.distil.appearance import check_is_due
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.grids import GridSampler
from sidlsg.distil.losses import Method
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.sampler import UPDATES, DrawPlan
from sidlsg.distil.state import Row, TrainingState
from sidlsg.distil.step import StepResult, train_step
from sidlsg.distil.supervisor import on_sigterm
from sidlsg.runtime.errors import AlarmError, NotFiniteError, StoppedError
from sidlsg.runtime.progress import Meter
from sidlsg.teacher.embeddings import TextEmbeddings
from sidlsg.teacher.images import Images
from sidlsg.teacher.schedule import Schedule


class StopRequest:
    """Whether training is to save its state and end."""

    def __init__(self) -> None:
        self.signalled = False
        """Whether SIGTERM came. It is never reset: a machine that is taken away sends it once."""
        self.slowed = False
        """Whether training has become so slow that the machine is to be measured again."""

    def __call__(self) -> bool:
        """Whether it is by now."""
        return self.signalled or self.slowed

    def listening(self) -> AbstractContextManager[None]:
        """Take SIGTERM as the request while the block runs; only a main thread can."""
        return on_sigterm(self._signal)

    def _signal(self) -> None:
        self.signalled = True


def learning_rate_factor(recipe: Recipe, iteration: int) -> float:
    """What the learning rates are multiplied with: linear warm-up, then constant or a cosine to `lr_floor`."""
    if iteration < recipe.warmup:
        return (iteration + 1) / recipe.warmup
    if recipe.lr_schedule == "constant":
        return 1.0
    done = (iteration - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)
    return recipe.lr_floor + (1 - recipe.lr_floor) * 0.5 * (1 + math.cos(math.pi * done))


def snapshot_steps(recipe: Recipe) -> set[int]:
    """The iterations after which a grid is kept: 0 and the last among them, closer together at the start."""
    count = recipe.grids
    return {round(recipe.iterations * (k / count) ** 2) for k in range(count + 1)} if count else set()


class Evaluation(Protocol):
    """Scores the EMA during training."""

    best_by: str
    """The score that says which checkpoint is the best; lower is better."""

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        """Scores by name."""


class Observer(Protocol):
    """Receives a run's progress, at rank 0 alone."""

    def iterated(self, images_seen: int) -> None:
        """An iteration is done, as far as the host knows; nothing is read from the device for it."""

    def logged(self, row: Row) -> None:
        """A row of the training log: `iteration`, `images_seen`, losses, norms, diagnostics, speed."""

    def sampled(self, images_seen: int, grid: Image.Image) -> None:
        """A grid of the EMA's samples."""

    def evaluated(self, row: Row) -> None:
        """Scores of the EMA by name, with `iteration` and `images_seen`."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What a training run works with; everything but the recipe and the state."""

    teacher: Any
    """The frozen teacher's network, as `TrainingState.frozen` gives it."""
    schedule: Schedule
    """On the networks' device."""
    latent_shape: tuple[int, int, int]
    prompt_count: int
    encode: TextEmbeddings
    seed: int
    checkpoints: Checkpoints
    report: Callable[[str], None]
    real_images: RealImages | None = None
    """For the recipe's adversarial term."""
    grids: GridSampler | None = None
    evaluation: Evaluation | None = None
    alarms: Alarms | None = None
    check_images: Callable[[Images, int], str | None] | None = None
    """Checks the fixed samples after some iterations; returns what ends the run, if anything does."""
    observers: Sequence[Observer] = ()
    is_slow: Callable[[Row], bool] | None = None
    """Asked at rank 0 for each row of the log; where it is, the run stops as if it were asked to."""
    stop: StopRequest = field(default_factory=StopRequest)


def train(recipe: Recipe, state: TrainingState, run: TrainingRun) -> TrainingState:
    """Distil, from the newest checkpoint where there is one; changes `state`, whose EMA becomes the student.

    Raises:
        InputError: the checkpoints are another run's.
        StoppedError: the process was asked to end; the state is saved.
        AlarmError: an alarm that may stop the run went off.
    """
    layout = state.layout
    found = run.checkpoints.load_latest(state)
    if found is not None and state.world.is_rank0:
        run.report(
            f"continues from {found}: iteration {state.iteration} of {recipe.iterations}, "
            f"{state.images_seen:,} images seen"
        )
        if layout != state.layout and layout and state.layout:
            run.report(
                f"the run used {state.layout} before and uses {layout} now: the last bits may differ by rounding; "
                "--processes and --threads pin both"
            )
    state.layout = layout
    if run.alarms is not None:
        run.alarms.remember(state.log)
    with run.stop.listening():
        try:
            _Loop(recipe, state, run).until_the_end()
        finally:
            run.checkpoints.wait()
    return state


def _adversary(recipe: Recipe, state: TrainingState, images: RealImages | None) -> Adversary | None:
    term = recipe.adversarial_term
    if term is None or images is None:
        return None
    return Adversary(term=term, feature_block=feature_block_of(state.fake_score), images=images)


class _Loop:
    """The iterations that are left."""

    def __init__(self, recipe: Recipe, state: TrainingState, run: TrainingRun) -> None:
        self.recipe, self.state, self.run = recipe, state, run
        self.is_rank0 = state.world.is_rank0
        self.method = Method(
            teacher=state.call(run.teacher),
            schedule=run.schedule,
            guidance=recipe.guidance,
            alpha=recipe.alpha,
            steps=recipe.few_steps,
            adversary=_adversary(recipe, state, run.real_images),
            generator_weight=recipe.generator_weight,
        )
        self.plan = DrawPlan(
            seed=run.seed,
            batch=recipe.batch,
            prompt_count=run.prompt_count,
            latent_shape=run.latent_shape,
            prompt_dropout=recipe.prompt_dropout if recipe.guidance.drops_prompts else 0.0,
            real_count=0 if run.real_images is None else run.real_images.count,
            steps=recipe.few_steps,
            sample_time=run.schedule.sample_time,
        )
        self.snapshot_steps = snapshot_steps(recipe)
        self.clock = self.saved_at = time.monotonic()
        self.logged_at = (state.images_seen, self.clock)
        self.nan_samples_then = state.nan_samples

    def until_the_end(self) -> None:
        """Iterate, and do what is due after each iteration."""
        recipe, state = self.recipe, self.state
        total = recipe.iterations * recipe.batch
        meter = Meter("distil", total, "images", done=state.images_seen) if self.is_rank0 else None
        note = ""
        with meter or contextlib.nullcontext():
            if state.iteration == 0 and not state.fake_score_done:
                self._sample_grid()
            while state.iteration < recipe.iterations:
                done = state.iteration + 1
                final = done == recipe.iterations
                observe = done % recipe.log_every == 0 or final
                factor = learning_rate_factor(recipe, state.iteration)
                state.set_learning_rates(factor * recipe.lr, factor * recipe.fake_score_lr)
                result = train_step(
                    state,
                    self.method,
                    self.plan,
                    self.run.encode,
                    recipe.micro_batch,
                    recipe.ema_half_life,
                    observe,
                    self.run.stop,
                    self._save_is_due,
                )
                if state.fake_score_done:  # stopped between the two updates
                    # Whether or not they are wanted here: the process that resumes may log more often.
                    state.carried = self._numbers(result)
                    self._end_early()
                if observe:
                    row = self._log(result, factor * recipe.lr)
                    shown = {update.replace("_", " "): row.get(f"{update}_loss") for update in UPDATES}
                    losses = [f"{name} {'frozen' if x is None else f'{x:.2f}'}" for name, x in shown.items()]
                    note = f"losses: {', '.join(losses)}"
                state.carried = {}
                self._count_time()
                for observer in self._observers:
                    observer.iterated(state.images_seen)
                if meter is not None:
                    meter.update(state.images_seen, note)
                self._sample_grid()
                score = self._evaluate(final)
                if score is not None or final or result.save or state.iteration % recipe.checkpoint_every == 0:
                    # The last one must be there before the student is made of it.
                    self.run.checkpoints.save(state, score, wait=final)
                    self.saved_at = time.monotonic()
                if result.stopped and not final:
                    self._end_early()

    @property
    def _observers(self) -> Sequence[Observer]:
        return self.run.observers if self.is_rank0 else ()

    def _save_is_due(self) -> bool:
        """Whether the last checkpoint is too long ago, by the clock of rank 0."""
        return self.is_rank0 and 0 < self.recipe.checkpoint_minutes <= (time.monotonic() - self.saved_at) / 60

    def _end_early(self) -> None:
        self._count_time()
        evaluation, rows, score = self.run.evaluation, self.state.evaluations, None
        # Half an iteration changes nothing in the EMA.
        if evaluation is not None and rows and rows[-1]["iteration"] == self.state.iteration:
            score = rows[-1][evaluation.best_by]
        self.run.checkpoints.save(self.state, score, wait=True)
        raise StoppedError(
            f"asked to end at iteration {self.state.iteration} of {self.recipe.iterations}; "
            f"the state is saved in {self.run.checkpoints.uri}, and the same command resumes from there"
        )

    def _log(self, result: StepResult, rate: float) -> Row:
        """Add a row to the log, and check it."""
        state, run = self.state, self.run
        numbers = self._numbers(result)  # reading waits for the device: the time below is that of finished work
        now = time.monotonic()
        images, then = self.logged_at
        self.logged_at = (state.images_seen, now)
        seen = state.images_seen - images
        nan_samples = state.nan_samples - self.nan_samples_then
        self.nan_samples_then = state.nan_samples
        row: Row = {
            "iteration": state.iteration,
            "images_seen": state.images_seen,
            **state.carried,
            **numbers,
            "learning_rate": rate,
            "nan_samples": state.nan_samples,
            "nan_share": nan_samples / max(1, seen * len(UPDATES)),
            "images_per_second": seen / max(now - then, 1e-9),
            "seconds": state.seconds + now - self.clock,
        }
        state.log.append(row)
        for observer in self._observers:
            observer.logged(row)
        self._end_if(run.alarms(row) if run.alarms is not None and self.is_rank0 else None)
        if run.is_slow is not None and self.is_rank0 and run.is_slow(row):
            run.stop.slowed = True
        return row

    def _numbers(self, result: StepResult) -> Row:
        """What the iteration reported, read from the device at once."""
        losses = self.state.world.total(torch.stack(list(result.losses.values())).double())
        values: dict[str, Tensor] = {f"{update}_loss": loss for update, loss in zip(result.losses, losses, strict=True)}
        values |= {f"{update}_gradient_norm": norm for update, norm in result.gradient_norms.items()}
        values |= result.diagnostics
        read = torch.stack([value.double() for value in values.values()]).tolist()
        return dict(zip(values, read, strict=True))

    def _sample_grid(self) -> None:
        """Sample the fixed prompts where a grid or a check of it is due, and do both."""
        run, iteration = self.run, self.state.iteration
        kept = iteration in self.snapshot_steps
        checked = run.check_images is not None and iteration > 0 and check_is_due(iteration, self.snapshot_steps)
        if run.grids is None or not (kept or checked):
            return
        with self._ema() as unet:
            images = run.grids.images(unet)
        if kept:
            seen = self.state.images_seen
            try:
                grid = run.grids.keep(images, seen)
            except OSError as error:  # days of training do not end for want of a grid
                run.report(f"no grid of samples at {seen:,} images: {error.strerror or error}; training continues")
            else:
                for observer in self._observers:
                    observer.sampled(seen, grid)
        if run.check_images is not None and checked:
            self._end_if(run.check_images(images, iteration) if self.is_rank0 else None)

    def _evaluate(self, final: bool) -> float | None:
        """Score the EMA where it is due; returns the score that names the best checkpoint."""
        evaluation, every = self.run.evaluation, self.recipe.evaluate_every
        seen, batch = self.state.images_seen, self.recipe.batch
        if evaluation is None or not every or (seen // every == (seen - batch) // every and not final):
            return None
        with self._ema() as unet:
            scores = evaluation(unet)
        row = {"iteration": self.state.iteration, "images_seen": seen, **scores}
        self.state.evaluations.append(row)
        for observer in self._observers:
            observer.evaluated(row)
        return scores[evaluation.best_by]

    @contextlib.contextmanager
    def _ema(self) -> Iterator[Callable[..., Any]]:
        """The EMA, to sample with; an image that is not finite ends the run, whatever `on_alarm` is."""
        try:
            with self.state.ema_on_device() as unet:
                yield unet
        except NotFiniteError as error:
            cause, advice = diagnosis(self.recipe)
            raise AlarmError(
                f"at {self.state.images_seen:,} images {error}; likely cause: {cause}; {advice}"
            ) from error

    def _end_if(self, message: str | None) -> None:
        """End the run in all processes where rank 0 has a reason."""
        ended = torch.tensor(int(message is not None), device=self.state.device)
        if int(self.state.world.total(ended)):
            raise AlarmError(message or "ended by an alarm, which rank 0 reports")

    def _count_time(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self.clock
        self.clock = now
