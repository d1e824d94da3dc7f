"""The sampler against the recursion written out for scalars."""

from __future__ import annotations

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from sidlsg.distil.sampler import DrawPlan, generate_latents
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.schedule import T_MAX, T_MIN, NoiseSchedule

SCHEDULE = NoiseSchedule.from_scheduler(
    DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_k_steps_follow_the_recursion(steps: int) -> None:
    seen: list[int] = []

    def unet(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> SimpleNamespace:
        seen.append(int(t[0]))
        return SimpleNamespace(sample=0.3 * x + 0.1)

    z, noises = 0.7, [0.2, -0.4, 1.1][: steps - 1]
    tensor = torch.tensor(noises, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    found = generate_latents(
        unet,
        SCHEDULE,
        torch.full((1, 1, 1, 1), z, dtype=torch.float64),
        torch.zeros(1, 1, 1),
        625,
        steps,
        tensor if steps > 1 else None,
    )
    expected, timesteps = 0.0, []
    for i in range(steps):
        t = math.floor(625 * (1 - i / steps) + 1e-9)
        timesteps.append(t)
        alpha_bar = SCHEDULE.alphas_cumprod[t].item()
        a_t, s_t = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        x = a_t * expected + s_t * [z, *noises][i]
        expected = (x - s_t * (0.3 * x + 0.1)) / a_t
    assert seen == timesteps
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_one_step_is_differentiable() -> None:
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    z = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    x_g = generate_latents(lambda x, *_: SimpleNamespace(sample=weight * x), SCHEDULE, z, torch.zeros(2, 1, 1))
    x_g.sum().backward()
    alpha_bar = SCHEDULE.alphas_cumprod[625].item()
    a_t, s_t = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    # x0 = (s z - s w s z)/a, so the derivative of the sum of 8 in w is -8 s²/a.
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(-8 * s_t**2 / a_t, rel=1e-9)


@pytest.mark.parametrize(
    ("t_init", "steps", "noises", "message"),
    [
        (0, 1, 0, "t_init is 0"),
        (1000, 1, 0, "t_init is 1000"),
        (625, 0, 0, "steps is 0"),
        (625, 3, 1, "3 steps need 2 fresh noises; 1 were given"),
    ],
)
def test_what_does_not_fit_is_refused(t_init: int, steps: int, noises: int, message: str) -> None:
    z = torch.zeros(1, 1, 1, 1)
    given = torch.zeros(noises, 1, 1, 1, 1) if noises else None
    with pytest.raises(InputError, match=message):
        generate_latents(
            lambda x, *_: SimpleNamespace(sample=x), SCHEDULE, z, torch.zeros(1, 1, 1), t_init, steps, given
        )


PLAN = DrawPlan(seed=3, batch=32, prompt_count=50, latent_shape=(4, 8, 8), prompt_dropout=0.1)


def test_parts_of_a_batch_are_the_batch() -> None:
    whole = PLAN.draw(7, "generator", 0, 32)
    parts = [PLAN.draw(7, "generator", start, stop) for start, stop in ((0, 12), (12, 24), (24, 32))]
    for field in ("z", "noise", "t"):
        assert torch.equal(getattr(whole, field), torch.cat([getattr(part, field) for part in parts]))
    assert whole.prompts == tuple(p for part in parts for p in part.prompts)


def test_a_sample_depends_on_its_index_alone() -> None:
    again = dataclasses.replace(PLAN, batch=64)
    assert torch.equal(PLAN.draw(7, "generator", 5, 6).z, again.draw(7, "generator", 5, 6).z)


def test_iterations_updates_seeds_and_samples_differ() -> None:
    reference = PLAN.draw(0, "generator", 0, 2)
    others = [
        PLAN.draw(1, "generator", 0, 2),
        PLAN.draw(0, "fake_score", 0, 2),
        dataclasses.replace(PLAN, seed=4).draw(0, "generator", 0, 2),
    ]
    for other in others:
        assert not torch.equal(reference.z, other.z)
        assert not torch.equal(reference.noise, other.noise)
    assert not torch.equal(reference.z[0], reference.z[1])
    assert not torch.equal(reference.z, reference.noise)


def test_prompts_pass_in_shuffled_epochs_over_both_updates() -> None:
    plan = dataclasses.replace(PLAN, batch=5)
    order = [p for i in range(10) for u in ("fake_score", "generator") for p in plan.draw(i, u, 0, 5).prompts]
    assert sorted(order[:50]) == list(range(50))
    assert sorted(order[50:]) == list(range(50))
    assert order[:50] != order[50:]
    assert order[:50] != list(range(50))


def test_large_sets_pass_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one block's text embeddings are needed at a time; the last block may be shorter, and comes anywhere."""
    monkeypatch.setattr("sidlsg.distil.sampler.BLOCK", 16)
    shorts = set()
    for seed in range(8):
        plan = dataclasses.replace(PLAN, batch=5, seed=seed)
        order = [p for i in range(5) for u in ("fake_score", "generator") for p in plan.draw(i, u, 0, 5).prompts]
        assert sorted(order) == list(range(50))
        visited = [block for block, _ in itertools.groupby(prompt // 16 for prompt in order)]
        assert sorted(visited) == [0, 1, 2, 3]
        shorts.add(visited.index(3))
    assert len(shorts) > 1


def test_distributions() -> None:
    draws = PLAN.draw(0, "fake_score", 0, 4000)
    t = draws.t.numpy()
    assert t.min() >= T_MIN == 20
    assert t.max() <= T_MAX == 979
    assert abs(t.mean() - 499.5) < 4 * 277 / np.sqrt(4000)
    share = np.mean(draws.replaced)
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / 4000)
    z = draws.z.numpy()
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01


def test_both_ends_of_t_are_sampled() -> None:
    t = torch.cat([PLAN.draw(i, "generator", 0, 2000).t for i in range(5)])
    assert {20, 979} <= set(t.tolist())


def test_the_generators_update_replaces_no_prompt() -> None:
    assert not any(PLAN.draw(0, "generator", 0, 2000).replaced)
