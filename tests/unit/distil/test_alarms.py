"""Alarms on rows of a log, one at a time, and on a real run that is set to fail."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.distil.alarms import WINDOW, Alarm, Alarms, check_rows
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.loop import TrainingRun, train
from sidlsg.distil.recipes import Recipe, recipe_with_changes
from sidlsg.distil.run_identity import RunIdentity
from sidlsg.distil.state import Row, TrainingState
from sidlsg.runtime.errors import AlarmError
from sidlsg.teacher.pipeline import Teacher, load_teacher

HEALTHY: Row = {
    "fake_score_loss": 70.0,
    "generator_loss": -20.0,
    "fake_score_gradient_norm": 300.0,
    "generator_gradient_norm": 800.0,
    "fake_score_error": 0.25,
    "latent_size": 1.1,
    "teacher_distance": 0.5,
    "score_difference": 0.4,
    "generator_step": 0.01,
    "fake_score_step": 0.01,
    "nan_share": 0.0,
}


def recipe(**changes: Any) -> Recipe:
    return recipe_with_changes("tiny", json.dumps(changes))


def log(count: int, start: int = 0, **changes: float) -> list[Row]:
    return [{"iteration": start + i + 1, **HEALTHY, **changes} for i in range(count)]


def names(alarms: list[Alarm]) -> list[str]:
    return [alarm.name for alarm in alarms]


def test_a_healthy_log_raises_nothing() -> None:
    rows = log(100)
    assert not [alarm for end in range(1, 101) for alarm in check_rows(rows[:end], recipe())]


STRONG = {"strategy": "custom", "scales": {"kappa1": 1.2, "kappa2": 1.2, "kappa3": 1.2, "kappa4": 50}}
SICK = {
    "nan": ({"nan_share": 0.02}, {}, "samples-not-finite", "learning rate is too high (lr = 0.0005"),
    "fp16": ({"nan_share": 0.02}, {"precision": "fp16"}, "samples-not-finite", "fp16 overflows"),
    "steps": ({"generator_step": 0.2}, {"lr": 0.5}, "steps-too-large", "(lr = 0.5)"),
    "fake steps": (
        {"fake_score_step": 0.2},
        {"fake_score_lr": 0.25},
        "steps-too-large",
        "(fake_score_lr = 0.25)",
    ),
    "still": ({"fake_score_step": 0.0}, {"fake_score_lr": 1e-30}, "fake-score-not-trained", "fake_score_lr = 1e-30"),
    "slow": ({"fake_score_step": 9e-5}, {"fake_score_lr": 1e-6}, "fake-score-not-trained", "fake_score_lr = 1e-06"),
    "both still": ({"fake_score_step": 0.0, "generator_step": 0.0}, {}, "fake-score-not-trained", "not updated"),
    "same": ({"score_difference": 1e-5}, {}, "fake-score-not-trained", "the fake score is not updated"),
    "generator still": ({"generator_step": 0.0}, {"lr": 1e-30}, "generator-not-trained", "lr = 1e-30"),
    "no gradient": ({"generator_gradient_norm": 1e-6}, {}, "generator-not-trained", "fake score equals the teacher"),
    "useless": ({"fake_score_error": 1.3}, {}, "fake-score-useless", "learning rate is too high"),
    "kappa1": ({"fake_score_error": 1.3}, {"scales": {"kappa": 50}}, "fake-score-useless", "(kappa1 = 50"),
    "large": ({"latent_size": 3.1}, {}, "latents-run-away", "learning rate"),
    "small": ({"latent_size": 0.09}, {}, "latents-collapse", "learning rate"),
    "kappa4": ({"teacher_distance": 6.0}, STRONG, "teacher-far-away", "guidance is too strong (kappa4 = 50;"),
    "far": ({"teacher_distance": 6.0}, {"lr": 0.5}, "teacher-far-away", "lr = 0.5"),
}


@pytest.mark.parametrize(("changes", "values", "name", "cause"), SICK.values(), ids=SICK.keys())
def test_each_check_raises_its_alarm_after_a_window_and_names_the_cause(
    changes: Row, values: dict[str, Any], name: str, cause: str
) -> None:
    rows, run = log(WINDOW, **changes), recipe(**values)
    if run.precision == "fp16":
        rows = [row | {"iteration": row["iteration"] + 50} for row in rows]
    (alarm,) = check_rows(rows, run)
    assert alarm.name == name
    assert cause in alarm.cause
    assert not check_rows(rows[: WINDOW - 1], run) or name == "samples-not-finite"


def test_one_odd_row_raises_nothing_but_half_the_samples_lost_does() -> None:
    odd = {name: value * 50 for name, value in HEALTHY.items() if name not in ("fake_score_error", "nan_share")}
    assert not check_rows([*log(20), *log(1, 20, **odd), *log(3, 21)], recipe())
    assert not check_rows([*log(20), *log(1, 20, nan_share=0.03)], recipe())
    assert names(check_rows(log(1, nan_share=0.5), recipe())) == ["samples-not-finite"]


def test_lost_samples_hide_what_follows_from_them() -> None:
    rows = log(WINDOW, nan_share=1.0, fake_score_step=0.0, generator_step=0.0, latent_size=46.0)
    assert names(check_rows(rows, recipe())) == ["samples-not-finite"]


def test_rows_without_steps_are_judged_by_the_rest() -> None:
    rows = [{name: value for name, value in row.items() if not name.endswith("_step")} for row in log(WINDOW)]
    assert not check_rows(rows, recipe())


def test_equal_scores_mean_nothing_where_the_scales_differ() -> None:
    assert not check_rows(log(WINDOW, score_difference=1e-5), recipe(strategy="long", scales={"kappa4": 2}))


def test_a_loss_scale_that_settles_may_skip_updates() -> None:
    still = {"fake_score_step": 0.0, "generator_step": 0.0}
    assert not check_rows(log(WINDOW, **still), recipe(precision="fp16"))
    assert names(check_rows(log(WINDOW, 60, **still), recipe(precision="fp16"))) == ["fake-score-not-trained"]


def test_gradients_that_grow_a_hundredfold() -> None:
    grown = log(WINDOW, 20, fake_score_gradient_norm=301 * 100.0)
    assert names(check_rows([*log(20), *grown], recipe())) == ["gradients-explode"]
    assert not check_rows([*log(20), *log(WINDOW, 20, fake_score_gradient_norm=299 * 100.0)], recipe())


def test_a_fake_score_that_loses_track_slowly() -> None:
    rows = [row for block in range(5) for row in log(20, 20 * block, fake_score_error=0.2 + 0.15 * block)]
    assert not check_rows(rows[:60], recipe())
    assert names(check_rows(rows, recipe())) == ["fake-score-drifts"]


def test_an_alarm_warns_once() -> None:
    lines: list[str] = []
    counted: list[str] = []
    alarms = Alarms(recipe(**STRONG), lines.append, counted.append)
    assert [alarms(row) for row in log(20, teacher_distance=20.0)] == [None] * 20
    assert len(lines) == 1
    assert counted == ["teacher-far-away"]
    assert lines[0].startswith(f"alarm at iteration {WINDOW}: teacher-far-away: ")
    assert "lie 22 from" in lines[0]
    assert "limit 5" in lines[0]
    assert "start again with kappa4 at 10 or less" in lines[0]


def test_stop_ends_the_run_and_off_checks_nothing() -> None:
    lines: list[str] = []
    said = [Alarms(recipe(on_alarm="stop"), lines.append)(row) for row in log(1, nan_share=1.0)]
    assert "samples-not-finite" in str(said[0])
    assert Alarms(recipe(on_alarm="off"), lines.append)(log(1, nan_share=1.0)[0]) is None
    assert not lines


def test_a_resumed_run_is_checked_as_if_it_had_never_stopped() -> None:
    rows = log(WINDOW, latent_size=9.0)
    for stopped_after in range(1, WINDOW):
        alarms = Alarms(recipe(on_alarm="stop"), print)
        alarms.remember(rows[:stopped_after])
        said = [alarms(row) for row in rows[stopped_after:]]
        assert said[:-1] == [None] * (WINDOW - stopped_after - 1)
        assert "latents-run-away" in str(said[-1])


def test_alarms_of_images_are_raised_alike() -> None:
    found = [Alarm("pictures-noise", "a", "b", "c")]
    lines: list[str] = []
    warning = Alarms(recipe(), lines.append)
    assert warning.raise_new(found, 10) is None
    assert warning.raise_new(found, 25) is None
    assert lines == ["alarm at iteration 10: pictures-noise: a; likely cause: b; c"]
    assert Alarms(recipe(on_alarm="stop"), print).raise_new(found, 10) == lines[0]


@pytest.fixture(scope="module")
def teacher(assets: Path) -> Teacher:
    return load_teacher(assets / "tiny-sd")


RUNS: dict[str, tuple[dict[str, Any], str | None]] = {
    "healthy": ({}, None),
    "learning rate": ({"lr": 0.5, "fake_score_lr": 0.5}, r"learning rate is too high \((fake_score_)?lr = 0.5"),
    "fake score": ({"fake_score_lr": 1e-30}, "fake score is not updated: fake_score_lr = 1e-30"),
    "guidance": (STRONG, r"guidance is too strong \(kappa4 = 50"),
}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        pytest.param(*run, id=name, marks=[] if name in ("healthy", "guidance") else pytest.mark.long)
        for name, run in RUNS.items()
    ],
)
def test_a_real_run_is_stopped_by_an_alarm(
    teacher: Teacher, tmp_path: Path, changes: dict[str, Any], cause: str | None
) -> None:
    values = recipe(batch=4, micro_batch=4, log_every=1, checkpoint_every=100, grids=0, on_alarm="stop", **changes)
    # Checked in so few iterations, while the learning rate is that of a long run.
    values = dataclasses.replace(values, lr_schedule="constant", iterations=WINDOW + 1)
    state = TrainingState.start(teacher.network, values.lr, values.fake_score_lr, settings=values.settings)
    prompts = ["a small red circle on a blue background", "a large green cross on a white background"]
    uncond = teacher.encode([""])
    cond = teacher.encode(prompts)

    def encode(places: Sequence[int], empty: Sequence[bool]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.where(torch.tensor(empty)[:, None, None], uncond, cond[list(places)]), uncond

    run = TrainingRun(
        teacher=state.frozen(teacher.network),
        schedule=teacher.schedule,
        latent_shape=teacher.latent_shape,
        prompt_count=2,
        encode=encode,
        seed=0,
        checkpoints=Checkpoints(uri=str(tmp_path), run=RunIdentity({"a": "b"}), report=print),
        report=print,
        alarms=Alarms(values, print),
    )
    if cause is None:
        assert train(values, state, run).iteration == WINDOW + 1
        return
    with pytest.raises(AlarmError, match=cause):
        train(values, state, run)


ADVERSARIAL = {"adversarial": {"lambda_d": 1, "lambda_g": 0.01, "freeze": 100, "join": 1000}}


def adversarial_log(count: int, images: int, **changes: float) -> list[Row]:
    logits = {"real_accuracy": 0.7, "fake_accuracy": 0.7, "logits_saturated": 0.0}
    return [row | logits | {"images_seen": images} | changes for row in log(count)]


@pytest.mark.parametrize(
    ("changes", "images", "expected", "text"),
    [
        ({}, 500, [], ""),
        ({"logits_saturated": 0.6}, 500, ["discriminator-saturated"], "60% of the discriminator's logits"),
        ({"real_accuracy": 1.0, "fake_accuracy": 0.0}, 500, ["discriminator-guesses"], "told at most 50% of real"),
        ({"real_accuracy": 0.5, "fake_accuracy": 0.5}, 500, ["discriminator-guesses"], "lambda_d = 1"),
        ({"real_accuracy": 0.5, "fake_accuracy": 0.5}, 2000, [], ""),
        ({"real_accuracy": 1.0, "fake_accuracy": 1.0}, 500, [], ""),
        ({"real_accuracy": 1.0, "fake_accuracy": 1.0}, 2000, ["discriminator-certain"], "lambda_g = 0.01"),
        ({"real_accuracy": 1.0, "fake_accuracy": 0.9}, 2000, [], ""),
    ],
)
def test_the_discriminator_is_checked(changes: Row, images: int, expected: list[str], text: str) -> None:
    rows = adversarial_log(20, images, **changes)
    found = check_rows(rows, recipe(**ADVERSARIAL))
    assert names(found) == expected
    assert not expected or text in str(found[0])
    if "accuracy" in str(changes):
        assert check_rows(rows[:19], recipe(**ADVERSARIAL)) == []
