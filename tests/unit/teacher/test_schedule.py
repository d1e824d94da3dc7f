"""The noise schedule against formulas evaluated one sample at a time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.schedule import FlowSchedule, NoiseSchedule

T = torch.tensor([20, 625, 979])


def schedule(prediction_type: str) -> NoiseSchedule:
    return NoiseSchedule.from_scheduler(
        DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
        )
    )


def alpha_bar(t: int) -> float:
    """ᾱ_t from the definition of the scaled linear schedule."""
    product = 1.0
    for i in range(t + 1):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999
        product *= 1 - root**2
    return product


def normal(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_each_sample_has_its_own_timestep(prediction_type: str) -> None:
    noise_schedule = schedule(prediction_type)
    x, noise, output = normal(1), normal(2), normal(3)
    x_t = noise_schedule.add_noise(x, noise, T)
    x0 = noise_schedule.x0(output, x_t, T)
    target = noise_schedule.target(x, noise, T)
    for b, t in enumerate(T.tolist()):
        a_t, s_t = math.sqrt(alpha_bar(t)), math.sqrt(1 - alpha_bar(t))
        torch.testing.assert_close(x_t[b], a_t * x[b] + s_t * noise[b], rtol=1e-5, atol=1e-6)
        if prediction_type == "epsilon":
            torch.testing.assert_close(x0[b], (x_t[b] - s_t * output[b]) / a_t, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(target[b], noise[b])
            assert noise_schedule.weight(T)[b] == 1
        else:
            torch.testing.assert_close(x0[b], a_t * x_t[b] - s_t * output[b], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(target[b], a_t * noise[b] - s_t * x[b], rtol=1e-5, atol=1e-5)
            snr = alpha_bar(t) / (1 - alpha_bar(t))
            assert noise_schedule.weight(T)[b].item() == pytest.approx(snr / (snr + 1), rel=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_target_predicts_x0_exactly(prediction_type: str) -> None:
    noise_schedule = schedule(prediction_type)
    x, noise = normal(1), normal(2)
    x_t = noise_schedule.add_noise(x, noise, T)
    found = noise_schedule.x0(noise_schedule.target(x, noise, T), x_t, T)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_half_precision_comes_out_as_float32() -> None:
    noise_schedule = schedule("epsilon")
    x = normal(1).to(torch.bfloat16)
    assert noise_schedule.add_noise(x, x, T).dtype == torch.float32
    assert noise_schedule.x0(x, x, T).dtype == torch.float32


def test_other_prediction_types_are_refused() -> None:
    with pytest.raises(InputError, match="'sample' is not supported; allowed: epsilon, v_prediction"):
        schedule("sample")


class Scheduler:
    """As much of diffusers' as is read."""

    def __init__(self, alphas_cumprod: list[float] | None, prediction_type: str = "epsilon") -> None:
        self.config = SimpleNamespace(prediction_type=prediction_type)
        if alphas_cumprod is not None:
            self.alphas_cumprod = torch.tensor(alphas_cumprod)


def test_a_schedule_that_leaves_x0_undefined_is_refused() -> None:
    """A prediction of noise says nothing of x0 where nothing of it is left; one of v does."""
    with pytest.raises(InputError, match=r"Scheduler has ᾱ = 0 at timestep 1, where .* a teacher that predicts v"):
        NoiseSchedule.from_scheduler(Scheduler([0.5, 0.0]))
    assert NoiseSchedule.from_scheduler(Scheduler([0.5, 0.0], "v_prediction")).last == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_an_invalid_schedule_is_refused(value: float, prediction_type: str) -> None:
    with pytest.raises(InputError, match=r"ᾱ = .* at timestep 0; allowed: 0 to 1"):
        NoiseSchedule.from_scheduler(Scheduler([value, 0.5], prediction_type))


def test_a_scheduler_of_another_family_is_refused_with_those_that_work() -> None:
    with pytest.raises(InputError, match=r"a Scheduler has no ᾱ .*flow matching.* one of .*DDIMScheduler"):
        NoiseSchedule.from_scheduler(Scheduler(None))


def test_a_flow_is_the_stock_schedulers() -> None:
    """Noise as it adds it, and x0 as its one step from σ = 1 gives it, and any other step down to 0."""
    flow, stock = FlowSchedule(), FlowMatchEulerDiscreteScheduler()
    x, noise, velocity = normal(1), normal(2), normal(3)
    stock.set_timesteps(sigmas=[1.0, 0.75, 0.25])
    t = stock.timesteps.clone()
    x_t = flow.add_noise(x, noise, t)
    torch.testing.assert_close(x_t, stock.scale_noise(x, t, noise))
    torch.testing.assert_close(flow.target(x, noise, t), noise - x)
    torch.testing.assert_close(flow.implied_noise(x_t, x, t), noise)
    torch.testing.assert_close(flow.x0(flow.target(x, noise, t), x_t, t), x)
    assert flow.weight(t).tolist() == [1, 1, 1]
    for b, time in enumerate(t):
        stock.set_timesteps(sigmas=[float(time) / 1000])
        (given,) = stock.timesteps
        found = stock.step(velocity[b], given, x_t[b]).prev_sample
        torch.testing.assert_close(flow.x0(velocity, x_t, t)[b], found, rtol=1e-6, atol=1e-6)


def test_a_flows_times_have_their_logits_distribution() -> None:
    rows = (counted(0, "test", n) for n in range(4000))
    sigma = torch.tensor([float(FlowSchedule.sample_time(row)) for row in rows]) / 1000
    logit = torch.logit(sigma.double())
    assert 0 < sigma.min() < sigma.max() <= 1
    assert float(logit.mean()) == pytest.approx(math.log(2), abs=0.1)
    assert float(logit.std()) == pytest.approx(1.6, abs=0.1)
