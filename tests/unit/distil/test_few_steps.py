"""The steps of a student: their timesteps, which is trained, and that their noises are functions of counters."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.recipes import RECIPES, recipe_with_changes
from sidlsg.distil.run_identity import run_identity
from sidlsg.distil.sampler import DrawPlan, generate_latents
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_scheduler(
    DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
)
PLAN = DrawPlan(seed=3, batch=8, prompt_count=50, latent_shape=(4, 4, 4), prompt_dropout=0.1, steps=FewSteps(count=4))


@pytest.mark.parametrize(
    ("t_init", "count", "timesteps"),
    [(625, 1, (625,)), (625, 2, (625, 312)), (625, 4, (625, 468, 312, 156)), (1000, 4, (1000, 750, 500, 250))],
)
def test_timesteps(t_init: int, count: int, timesteps: tuple[int, ...]) -> None:
    assert FewSteps(t_init=t_init, count=count).timesteps == timesteps


def test_every_step_is_trained_equally_often_and_the_same_after_a_restart() -> None:
    steps = FewSteps(count=4)
    drawn = [steps.trained(0, iteration) for iteration in range(2000)]
    assert all(abs(count - 500) < 4 * 20 for count in Counter(drawn).values())
    assert set(drawn) == {1, 2, 3, 4}
    assert drawn[1500:] == [steps.trained(0, iteration) for iteration in range(1500, 2000)]
    assert drawn[:50] != [steps.trained(1, iteration) for iteration in range(50)]


def with_step(plan: DrawPlan, k: int) -> int:
    return next(i for i in range(100) if plan.steps.trained(plan.seed, i) == k)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_draws_do_not_depend_on_the_number_of_processes_or_micro_batches(processes: int) -> None:
    iteration = with_step(PLAN, 4)
    for update in ("fake_score", "generator"):
        whole = PLAN.draw(iteration, update, 0, 8)
        share = 8 // processes
        parts = [PLAN.draw(iteration, update, start, start + share) for start in range(0, 8, share)]
        assert {part.step for part in parts} == {whole.step} == {4}
        assert whole.step_noises is not None
        assert whole.step_noises.shape == (3, 8, 4, 4, 4)
        found = [part.step_noises for part in parts if part.step_noises is not None]
        assert torch.equal(whole.step_noises, torch.cat(found, dim=1))


def test_other_draws_are_those_of_a_one_step_student() -> None:
    one = dataclasses.replace(PLAN, steps=FewSteps())
    for update in ("fake_score", "generator"):
        few, single = (plan.draw(with_step(PLAN, 3), update, 2, 5) for plan in (PLAN, one))
        assert single.step_noises is None
        assert few.prompts == single.prompts
        assert all(torch.equal(getattr(few, name), getattr(single, name)) for name in ("z", "noise", "t"))


def test_noises_are_normal_and_differ_by_step_sample_iteration_and_update() -> None:
    plan = dataclasses.replace(PLAN, batch=2000)
    first, second = (i for i in range(100) if plan.steps.trained(plan.seed, i) == 4 and i < 20), with_step(PLAN, 4)
    draws = plan.draw(second, "generator", 0, 2000)
    assert draws.step_noises is not None
    assert abs(float(draws.step_noises.mean())) < 0.01
    assert abs(float(draws.step_noises.std()) - 1) < 0.01
    other = plan.draw(second, "fake_score", 0, 2).step_noises
    later = plan.draw(list(first)[1], "generator", 0, 2).step_noises
    assert other is not None
    assert later is not None
    rows = [*draws.step_noises[:, :2].flatten(0, 1), *other.flatten(0, 1), *later.flatten(0, 1), *draws.z[:2]]
    assert len({row.numpy().tobytes() for row in rows}) == len(rows)


@pytest.mark.parametrize("noise", ["fixed", "ddim"])
def test_deterministic_steps_need_no_noise(noise: str) -> None:
    plan = dataclasses.replace(PLAN, steps=FewSteps(count=4, noise=noise))
    assert plan.draw(with_step(plan, 4), "generator", 0, 2).step_noises is None


def sampled(noise: str, noises: list[float], last: int | None = None) -> tuple[float, list[float]]:
    """x̂ of a linear network from z = 0.7, and its inputs."""
    inputs: list[float] = []

    def unet(x: Tensor, *_: Tensor) -> Any:
        inputs.append(float(x))
        return SimpleNamespace(sample=0.3 * x + 0.1)

    z = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    given = torch.tensor(noises, dtype=torch.float64).view(-1, 1, 1, 1, 1) if noises else None
    x_g = generate_latents(unet, SCHEDULE, z, torch.zeros(1, 1, 1), 625, 3, given, step_noise=noise, last=last)
    return float(x_g), inputs


@pytest.mark.parametrize(("noise", "noises"), [("fresh", [0.2, -0.4]), ("fixed", []), ("ddim", [])])
def test_each_kind_of_noise_follows_its_formula(noise: str, noises: list[float]) -> None:
    found, inputs = sampled(noise, noises)
    x_g, epsilon, expected = 0.0, 0.7, []
    for i, t in enumerate((625, 416, 208)):
        alpha_bar = SCHEDULE.alphas_cumprod[t].item()
        a_t, s_t = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        x = a_t * x_g + s_t * epsilon
        expected.append(x)
        x_g = (x - s_t * (0.3 * x + 0.1)) / a_t
        epsilon = {"fresh": [*noises, 0, 0, 0][i], "fixed": 0.7, "ddim": (x - a_t * x_g) / s_t}[noise]
    assert inputs == pytest.approx(expected, rel=1e-12)
    assert found == pytest.approx(x_g, rel=1e-12)
    # The first two steps of three are not the two steps of a student of two.
    assert sampled(noise, noises[:1], last=2)[1] == pytest.approx(expected[:2], rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ('{"steps": 0}', "steps is 0; allowed: 1 to 8"),
        ('{"steps": 9}', "steps is 9; allowed: 1 to 8"),
        ('{"steps": 2.5}', "steps is 2.5; it must be of kind int"),
        ('{"steps": 4, "t_init": 3}', "steps is 4; allowed: 1 to t_init = 3"),
        ('{"step_noise": "new"}', "step_noise is 'new'; allowed: fresh, fixed, ddim"),
    ],
)
def test_a_recipe_of_bad_steps_is_refused(changes: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe_with_changes("tiny", changes)


def test_one_step_given_is_the_recipe_without_it_and_more_steps_are_another_run() -> None:
    tiny = RECIPES["tiny"]
    given = recipe_with_changes("tiny", '{"steps": 1, "step_noise": "fresh"}')
    few = [recipe_with_changes("tiny", changes) for changes in ('{"steps": 4}', '{"steps": 4, "step_noise": "ddim"}')]
    assert given.digest == tiny.digest
    assert "steps" not in given.values()
    assert few[1].values()["steps"] == 4
    keys = {run_identity(recipe, "a" * 64, "b" * 64, 0).key for recipe in (tiny, given, *few)}
    assert len({tiny.digest, *(recipe.digest for recipe in few)}) == len(keys) == 3
