"""The loop on a small teacher: stopping and resuming, schedules and snapshot steps, evaluations, alarms, observers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sidlsg.bundled.tiny_sd import new_scheduler, new_vae
from sidlsg.distil.alarms import Alarms
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.grids import GridSampler
from sidlsg.distil.loop import StopRequest, TrainingRun, learning_rate_factor, snapshot_steps, train
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.run_identity import RunIdentity
from sidlsg.distil.state import TrainingState
from sidlsg.runtime.errors import AlarmError, StoppedError
from sidlsg.teacher.schedule import NoiseSchedule

RECIPE = Recipe(
    name="test",
    scales={"kappa": 1.5},
    iterations=40,
    batch=2,
    micro_batch=2,
    lr=1e-4,
    fake_score_lr=1e-4,
    lr_schedule="cosine",
    log_every=5,
    checkpoint_every=5,
    grids=2,
)
SHORT = replace(RECIPE, iterations=16, log_every=2, checkpoint_every=2)
UNCOND = torch.zeros(1, 3, 8)


def encode(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Text embeddings by index, without a text encoder."""
    rows = [
        UNCOND[0] if empty else torch.randn(3, 8, generator=torch.Generator().manual_seed(index))
        for index, empty in zip(indices, replaced, strict=True)
    ]
    return torch.stack(rows), UNCOND


@pytest.fixture
def start(make_unet: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[TrainingState, TrainingRun]]:
    """A state and what its run needs, in a folder by name."""

    def make(name: str, report: Callable[[str], None] = print, **more: Any) -> tuple[TrainingState, TrainingRun]:
        torch.manual_seed(0)
        state = TrainingState.start(make_unet(0, torch.float32), RECIPE.lr, RECIPE.fake_score_lr)
        schedule = NoiseSchedule.from_scheduler(new_scheduler())
        drawer = GridSampler(
            folder=tmp_path / name / "grids",
            vae=new_vae(),
            schedule=schedule,
            encode=encode,
            prompt_count=2,
            latent_shape=(4, 4, 4),
            steps=FewSteps(),
            seed=0,
            at_once=16,
        )
        run = TrainingRun(
            teacher=state.frozen(make_unet(0, torch.float32)),
            schedule=schedule,
            latent_shape=(4, 4, 4),
            prompt_count=2,
            encode=encode,
            seed=0,
            checkpoints=Checkpoints(uri=str(tmp_path / name), run=RunIdentity({"lr": "1"}), report=report),
            report=report,
            grids=drawer,
        )
        return state, replace(run, **more)

    return make


class StopAt(StopRequest):
    """Asks to stop at the nth time that it is asked whether to; two times an iteration."""

    def __init__(self, time: int) -> None:
        super().__init__()
        self.left = time

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def weights(state: TrainingState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


@pytest.mark.parametrize(
    ("time", "iteration"),
    [
        pytest.param(16, 8, marks=pytest.mark.long, id="after a checkpoint"),
        pytest.param(17, 8, id="half-way"),
        pytest.param(18, 9, marks=pytest.mark.long, id="between checkpoints"),
    ],
)
def test_a_stopped_run_continues_to_bit_identical_weights(
    start: Callable[..., tuple[TrainingState, TrainingRun]], tmp_path: Path, time: int, iteration: int
) -> None:
    lines: list[str] = []
    state, run = start("a", lines.append)
    whole = train(SHORT, state, run)
    assert lines == []
    state, run = start("b", lines.append, stop=StopAt(time))
    with pytest.raises(StoppedError, match=f"iteration {iteration} of 16"):
        train(SHORT, state, run)
    state, run = start("b", lines.append)
    again = train(SHORT, state, run)
    assert len(lines) == 1
    assert f"iteration {iteration} of 16, {2 * iteration} images seen" in lines[0]

    tensors, others = weights(whole), weights(again)
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    first = start("c")[0]
    moved = [
        float((p - q).detach().abs().max())
        for p, q in zip(again.generator.parameters(), first.generator.parameters(), strict=True)
    ]
    assert max(moved) > 1e-4
    assert [row["iteration"] for row in again.log] == list(range(2, 17, 2))
    timed = ("seconds", "images_per_second")
    for ours, theirs in zip(whole.log, again.log, strict=True):
        assert {k: v for k, v in ours.items() if k not in timed} == {k: v for k, v in theirs.items() if k not in timed}
    grids = sorted(p.name for p in (tmp_path / "b" / "grids").iterdir())
    assert grids == ["000000000.png", "000000008.png", "000000032.png"]
    assert all((tmp_path / "a/grids" / g).read_bytes() == (tmp_path / "b/grids" / g).read_bytes() for g in grids)
    json.dumps(again.log)


def test_another_micro_batch_continues_the_same_run(start: Callable[..., tuple[TrainingState, TrainingRun]]) -> None:
    """How the machine is used is not part of a run's identity."""
    state, run = start("a", stop=StopAt(10))
    with pytest.raises(StoppedError):
        train(SHORT, state, run)
    state, run = start("a")
    changed = replace(SHORT, micro_batch=1, log_every=4)
    assert changed.identity == SHORT.identity
    assert train(changed, state, run).iteration == 16


def test_a_checkpoint_is_written_after_minutes_too_and_changes_nothing(
    start: Callable[..., tuple[TrainingState, TrainingRun]],
) -> None:
    short = replace(RECIPE, iterations=3, checkpoint_every=1000)
    state, run = start("usual")
    usual = weights(train(short, state, run))
    for minutes, saved in ((1e-9, [2, 3]), (0, [3]), (1e9, [3])):
        often = replace(short, checkpoint_minutes=minutes)
        assert often.identity == short.identity
        state, run = start(f"{minutes:g}")
        tensors = weights(train(often, state, run))
        assert run.checkpoints.iterations() == saved
        assert all(torch.equal(tensors[name], usual[name]) for name in usual)


class Falling:
    """Scores that are best at the third evaluation."""

    best_by = "distance"

    def __init__(self) -> None:
        self.values = [9.0, 5.0, 2.0, 4.0, 3.0]

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        assert unet(torch.zeros(1, 4, 4, 4), torch.tensor([625]), UNCOND).sample.shape == (1, 4, 4, 4)
        return {"distance": self.values.pop(0), "alignment": 0.5}


def test_evaluations_make_a_curve_and_keep_the_best(start: Callable[..., tuple[TrainingState, TrainingRun]]) -> None:
    state, run = start("a", evaluation=Falling())
    train(replace(SHORT, evaluate_every=8, checkpoint_every=3), state, run)
    assert [(row["images_seen"], row["distance"]) for row in state.evaluations] == [
        (8, 9.0),
        (16, 5.0),
        (24, 2.0),
        (32, 4.0),
    ]
    assert run.checkpoints.best() == 12
    assert run.checkpoints.iterations() == [12, 15, 16]


class Falls(Alarms):
    """An alarm at one iteration."""

    def __init__(self, iteration: int) -> None:
        super().__init__(RECIPE, print)
        self.iteration = iteration

    def __call__(self, row: dict[str, float]) -> str | None:
        return "the sky falls" if row["iteration"] == self.iteration else None


def test_an_alarm_ends_the_run_and_leaves_the_earlier_checkpoints(
    start: Callable[..., tuple[TrainingState, TrainingRun]],
) -> None:
    falling = Falls(6)
    state, run = start("a", alarms=falling)
    with pytest.raises(AlarmError, match="the sky falls"):
        train(SHORT, state, run)
    assert run.checkpoints.iterations() == [2, 4]
    # A run that resumes from there knows what was before.
    assert falling.rows == []
    state, run = start("a", alarms=(later := Falls(100)))
    train(SHORT, state, run)
    assert [row["iteration"] for row in later.rows] == [2, 4]


def test_the_fixed_samples_are_checked_early_and_at_every_grid(
    start: Callable[..., tuple[TrainingState, TrainingRun]],
) -> None:
    checked: list[int] = []

    def check(images: Any, iteration: int) -> str | None:
        assert images.shape == (36, 16, 16, 3)
        checked.append(iteration)
        return "nothing but noise" if iteration == 25 else None

    state, run = start("a", check_images=check)
    with pytest.raises(AlarmError, match="nothing but noise"):
        train(replace(RECIPE, grids=4), state, run)
    assert checked == [10, 22, 25]


def test_images_that_are_not_finite_end_the_run_with_what_to_do(
    start: Callable[..., tuple[TrainingState, TrainingRun]],
) -> None:
    state, run = start("a")
    with torch.no_grad():
        next(state.ema.parameters()).fill_(torch.nan)
    with pytest.raises(AlarmError, match=r"at 0 images .*not finite; likely cause: .*; start again with"):
        train(replace(RECIPE, on_alarm="off"), state, run)


class Diary:
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.grids: list[int] = []
        self.scores: list[dict[str, float]] = []
        self.iterations: list[int] = []

    def iterated(self, images_seen: int) -> None:
        self.iterations.append(images_seen)

    def logged(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def sampled(self, images_seen: int, grid: Image.Image) -> None:
        assert grid.size == (6 * 17 + 1, 6 * 17 + 1)
        self.grids.append(images_seen)

    def evaluated(self, row: dict[str, float]) -> None:
        self.scores.append(row)


def test_observers_receive_all(start: Callable[..., tuple[TrainingState, TrainingRun]]) -> None:
    diary = Diary()
    state, run = start("a", observers=[diary], evaluation=Falling())
    train(replace(SHORT, evaluate_every=16), state, run)
    assert diary.iterations == list(range(2, 34, 2))
    assert diary.rows == state.log
    assert diary.grids == [0, 8, 32]
    assert diary.scores == state.evaluations
    assert all(row["images_per_second"] > 0 for row in diary.rows)


def test_metrics_read_nothing_from_the_device(start: Callable[..., tuple[TrainingState, TrainingRun]]) -> None:
    """On a GPU each read makes the host wait; what the metrics take has been read for the log already."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from sidlsg.distil.metrics import TrainingMetrics

    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    def reads(name: str, **more: Any) -> int:
        state, run = start(name, **more)
        with Reads() as mode:
            train(replace(RECIPE, iterations=6, log_every=2), state, replace(run, grids=None))
        return mode.count

    metrics = TrainingMetrics("test", 2)
    assert reads("a", observers=[metrics]) == reads("b")
    own = {"run": metrics.run, "recipe": "test"}
    assert metrics.registry.get_sample_value("sidlsg_training_images_total", own) == 12


def test_learning_rates() -> None:
    cosine = replace(RECIPE, warmup=4, lr_floor=0.1)
    assert [learning_rate_factor(cosine, i) for i in (0, 1, 3)] == [0.25, 0.5, 1.0]
    assert learning_rate_factor(cosine, 4) == 1.0
    assert learning_rate_factor(cosine, 22) == pytest.approx(0.55)
    constant = replace(RECIPE, lr_schedule="constant")
    assert learning_rate_factor(constant, 39) == 1.0


def test_grids_are_closer_together_at_the_start() -> None:
    assert snapshot_steps(RECIPE) == {0, 10, 40}
    assert snapshot_steps(replace(RECIPE, grids=0)) == set()


def test_a_signal_is_a_request_while_listening() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert signal.getsignal(signal.SIGTERM) == before
    stop.slowed = False  # nothing takes a signal back
    assert stop()


def test_another_thread_cannot_listen_and_does_not_try() -> None:
    seen: list[bool] = []

    def work() -> None:
        stop = StopRequest()
        with stop.listening():
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
