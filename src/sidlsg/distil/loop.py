"""The training loop: it counts, schedules the learning rate, logs, draws grids, saves, and stops."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from sidlsg.distil.alarms import blame, remedy
from sidlsg.distil.appearance import due
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.draws import UPDATES, DrawPlan
from sidlsg.distil.grids import GridDrawer
from sidlsg.distil.observe import Observer, Row
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import Encode, Method, StepResult, train_step
from sidlsg.runtime.errors import AlarmError, NotFiniteError, StoppedError
from sidlsg.runtime.progress import Meter
from sidlsg.teacher.images import Images
from sidlsg.teacher.schedule import NoiseSchedule


class StopRequest:
    """Whether training is to save its state and end."""

    def __init__(self) -> None:
        self.signalled = False
        """Whether SIGTERM came. Nothing takes it back: a machine that is taken away says so once."""
        self.slowed = False
        """Whether training has become so slow that the machine is to be measured again."""

    def __call__(self) -> bool:
        """Whether it is by now."""
        return self.signalled or self.slowed

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM as the request while the block runs; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def terminated(_: int, __: FrameType | None) -> None:
            self.signalled = True

        earlier: Any = signal.signal(signal.SIGTERM, terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, earlier)


def learning_rate_factor(recipe: Recipe, iteration: int) -> float:
    """What the learning rates are multiplied with: linear warm-up, then constant or a cosine to the floor."""
    if iteration < recipe.warmup:
        return (iteration + 1) / recipe.warmup
    if recipe.lr_schedule == "constant":
        return 1.0
    done = (iteration - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)
    return recipe.lr_floor + (1 - recipe.lr_floor) * 0.5 * (1 + math.cos(math.pi * done))


def grid_marks(recipe: Recipe) -> set[int]:
    """After which iterations a grid is drawn: 0 and the last among them, closer together at the start."""
    return (
        {round(recipe.iterations * (k / recipe.grids) ** 2) for k in range(recipe.grids + 1)} if recipe.grids else set()
    )


class Evaluation(Protocol):
    """Scores the EMA along the way."""

    best_by: str
    """The score that says which checkpoint is the best; lower is better."""

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        """Scores by name."""


class AlarmCheck(Protocol):
    """Looks at the log's rows for what is wrong."""

    def remember(self, rows: Sequence[Row]) -> None:
        """Take the rows of before a restart."""

    def __call__(self, row: Row) -> str | None:
        """What ends the run, if anything does."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What a training run works with; everything but the recipe and the state."""

    teacher: Any
    """The frozen teacher's `UNet2DConditionModel`, as `TrainingState.frozen` gives it."""
    schedule: NoiseSchedule
    """On the networks' device."""
    latent_shape: tuple[int, int, int]
    prompt_count: int
    encode: Encode
    seed: int
    checkpoints: Checkpoints
    report: Callable[[str], None]
    grids: GridDrawer | None = None
    evaluation: Evaluation | None = None
    alarms: AlarmCheck | None = None
    """Looks at each row of the log; what it says ends the run."""
    look: Callable[[Images, int], str | None] | None = None
    """Looks at the fixed samples after some iterations; the same."""
    observers: Sequence[Observer] = ()
    pace: Callable[[Row], bool] | None = None
    """Looks at each row of the log in the leading process; where it says so, the run stops as if it were asked to."""
    stop: StopRequest = field(default_factory=StopRequest)


def train(recipe: Recipe, state: TrainingState, run: TrainingRun) -> TrainingState:
    """Distil, from the newest checkpoint where there is one.

    Args:
        recipe: all values.
        state: where to start; changed in place.
        run: what to work with.

    Returns:
        The final state; its EMA is the student.

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
    loop = _Loop(recipe, state, run)
    with run.stop.listening(), _quiet_unless(state.world.is_rank0, recipe, state) as meter:
        try:
            loop.until_the_end(meter)
        finally:
            run.checkpoints.wait()
    return state


class _Loop:
    """One pass through the iterations that are left."""

    def __init__(self, recipe: Recipe, state: TrainingState, run: TrainingRun) -> None:
        self.recipe, self.state, self.run = recipe, state, run
        self.method = Method(
            teacher=state.call(run.teacher),
            schedule=run.schedule,
            guidance=recipe.guidance,
            alpha=recipe.alpha,
            t_init=recipe.t_init,
        )
        self.plan = DrawPlan(
            seed=run.seed,
            batch=recipe.batch,
            prompt_count=run.prompt_count,
            latent_shape=run.latent_shape,
            prompt_dropout=recipe.prompt_dropout if recipe.guidance.drops_prompts else 0.0,
        )
        self.marks = grid_marks(recipe)
        self.clock = time.monotonic()
        self.saved_at = self.clock
        self.logged_at = (state.images_seen, self.clock)
        self.nan_samples_then = state.nan_samples

    def until_the_end(self, meter: Meter | None) -> None:
        """Iterate, and do what is due after each iteration."""
        recipe, state = self.recipe, self.state
        if state.iteration == 0 and not state.fake_score_done:
            self._draw()
        note = ""
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
                # Whether or not they are wanted here: who goes on may log more often.
                state.carried = self._numbers(result)
                self._end_early()
            if observe:
                row = self._row(result, factor * recipe.lr)
                state.log.append(row)
                self._tell(lambda observer, row=row: observer.logged(row))  # type: ignore[misc]
                self._look_for_alarms(row)
                if self.run.pace is not None and state.world.is_rank0 and self.run.pace(row):
                    self.run.stop.slowed = True
                losses = [f"{update.replace('_', ' ')} {row[f'{update}_loss']:.2f}" for update in UPDATES]
                note = f"losses: {', '.join(losses)}"
            state.carried = {}
            self._count_time()
            self._tell(lambda observer: observer.iterated(state.images_seen))
            if meter is not None:
                meter.update(state.images_seen, note)
            self._draw()
            score = self._evaluate(final)
            if score is not None or final or result.save or state.iteration % recipe.checkpoint_every == 0:
                # The last one must be there before the student is made of it.
                self.run.checkpoints.save(state, score, wait=final)
                self.saved_at = time.monotonic()
            if result.stopped and not final:
                self._end_early()

    def _save_is_due(self) -> bool:
        """Whether the last checkpoint is too long ago, by the clock of rank 0."""
        minutes = self.recipe.checkpoint_minutes
        return self.state.world.is_rank0 and 0 < minutes <= (time.monotonic() - self.saved_at) / 60

    def _end_early(self) -> None:
        self._count_time()
        self.run.checkpoints.save(self.state, self._latest_score(), wait=True)
        raise StoppedError(
            f"asked to end at iteration {self.state.iteration} of {self.recipe.iterations}; "
            f"the state is saved in {self.run.checkpoints.place}, and the same command goes on from there"
        )

    def _row(self, result: StepResult, rate: float) -> Row:
        state = self.state
        numbers = self._numbers(result)  # reading waits for the device: the time below is that of finished work
        now = time.monotonic()
        images, then = self.logged_at
        self.logged_at = (state.images_seen, now)
        seen = state.images_seen - images
        nan_samples = state.nan_samples - self.nan_samples_then
        self.nan_samples_then = state.nan_samples
        return {
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

    def _numbers(self, result: StepResult) -> Row:
        """What the iteration reported, read from the device at once."""
        names = [f"{update}_loss" for update in result.losses]
        losses = self.state.world.total(torch.stack(list(result.losses.values())).double())
        values: list[Tensor] = [*losses]
        for update, norm in result.gradient_norms.items():
            names.append(f"{update}_gradient_norm")
            values.append(norm)
        names += result.signs
        values += result.signs.values()
        read = torch.stack([value.double() for value in values]).tolist()
        return dict(zip(names, read, strict=True))

    def _draw(self) -> None:
        """Draw the fixed samples where a grid is due or somebody looks at them, and do both."""
        run, iteration = self.run, self.state.iteration
        kept = iteration in self.marks
        looked_at = run.look is not None and iteration > 0 and due(iteration, self.marks)
        if run.grids is None or not (kept or looked_at):
            return
        with self._drawing() as unet:
            images = run.grids.images(unet)
        if kept:
            self._keep(images)
        if run.look is not None and looked_at:
            self._end_if(run.look(images, iteration) if self.state.world.is_rank0 else None)

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[Callable[..., Any]]:
        """The network to draw with; a picture that is not finite ends the run, whatever the recipe says of alarms."""
        try:
            with self.state.drawing() as unet:
                yield unet
        except NotFiniteError as error:
            raise AlarmError(
                f"at {self.state.images_seen:,} images {error}; likely cause: {blame(self.recipe)}; "
                f"{remedy(self.recipe)}"
            ) from error

    def _keep(self, images: Images) -> None:
        seen = self.state.images_seen
        if self.run.grids is None:
            return
        try:
            picture = self.run.grids.keep(images, seen)
        except OSError as error:  # days of training do not end for want of a picture
            reason = error.strerror or error
            self.run.report(f"no grid of samples at {seen:,} images: {reason}; training goes on")
        else:
            self._tell(lambda observer: observer.drawn(seen, picture))

    def _evaluate(self, final: bool) -> float | None:
        """Score the EMA where it is due; the score that names the best checkpoint."""
        evaluation, every = self.run.evaluation, self.recipe.evaluate_every
        seen, batch = self.state.images_seen, self.recipe.batch
        if evaluation is None or not every or (seen // every == (seen - batch) // every and not final):
            return None
        with self._drawing() as unet:
            scores = evaluation(unet)
        row = {"iteration": self.state.iteration, "images_seen": seen, **scores}
        self.state.evaluations.append(row)
        self._tell(lambda observer: observer.evaluated(row))
        return scores[evaluation.best_by]

    def _look_for_alarms(self, row: Row) -> None:
        alarms = self.run.alarms if self.state.world.is_rank0 else None
        self._end_if(None if alarms is None else alarms(row))

    def _end_if(self, message: str | None) -> None:
        """End the run in all processes where the leading one has a reason."""
        said = torch.tensor(int(message is not None), device=self.state.device)
        if int(self.state.world.total(said)):
            raise AlarmError(message or "ended by an alarm; the leading process says which")

    def _latest_score(self) -> float | None:
        """What the last evaluation found, if it was of this very EMA: half an iteration changes nothing in it."""
        evaluation, rows = self.run.evaluation, self.state.evaluations
        if evaluation is None or not rows or rows[-1]["iteration"] != self.state.iteration:
            return None
        return rows[-1][evaluation.best_by]

    def _count_time(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self.clock
        self.clock = now

    def _tell(self, what: Callable[[Observer], None]) -> None:
        if self.state.world.is_rank0:
            for observer in self.run.observers:
                what(observer)


@contextlib.contextmanager
def _quiet_unless(is_rank0: bool, recipe: Recipe, state: TrainingState) -> Iterator[Meter | None]:
    if not is_rank0:
        yield None
        return
    with Meter("distil", recipe.iterations * recipe.batch, "images", done=state.images_seen) as meter:
        yield meter
