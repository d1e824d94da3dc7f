"""The sampler against the recursion written out for scalars."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler

from sidlsg.distil.sampler import generate_latents
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.schedule import NoiseSchedule

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
