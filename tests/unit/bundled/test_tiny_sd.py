"""The tiny Stable Diffusion's networks: real classes whose parts fit together, small enough to bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sidlsg.bundled.tiny_sd import (
    LATENT_SIZE,
    drawn_timesteps,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    new_vae,
)
from sidlsg.teacher.schedule import NoiseSchedule


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_are_small_enough_to_bundle() -> None:
    # In half precision everything together stays below 10 MB.
    unet, vae, text = new_unet(), new_vae(), new_text_encoder(new_tokenizer())
    assert 2.0e6 < parameters(unet) < 3.0e6
    assert 2 * (parameters(unet) + parameters(vae) + parameters(text)) < 10e6


def test_pixels_become_latents_and_latents_pixels() -> None:
    vae = new_vae()
    with torch.no_grad():
        latents = vae.encode(torch.zeros(2, 3, 32, 32)).latent_dist.mean
        assert latents.shape == (2, 4, LATENT_SIZE, LATENT_SIZE) == (2, 4, 8, 8)
        assert vae.decode(latents).sample.shape == (2, 3, 32, 32)


def test_the_noise_schedule_is_stable_diffusions() -> None:
    scheduler = new_scheduler()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4)
    assert scheduler.config.prediction_type == "epsilon"


def test_with_zero_terminal_snr_the_last_timestep_is_noise_alone_and_v_is_minus_the_latents() -> None:
    schedule = NoiseSchedule.from_scheduler(new_scheduler(zero_terminal_snr=True))
    x, noise, t = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([999])
    assert torch.equal(schedule.add_noise(x, noise, t), noise)
    assert torch.equal(schedule.target(x, noise, t), -x)


@pytest.mark.parametrize(("power", "share"), [(1, 0.25), (2, 0.5), (4, 0.25**0.25)])
def test_a_larger_power_draws_more_noisy_timesteps(power: float, share: float) -> None:
    t = drawn_timesteps(np.random.default_rng(0), 20_000, 999, power)
    assert (int(t.min()), int(t.max())) == (0, 999)
    assert float((t >= 750).float().mean()) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("steps", "expected"), [(1, [999]), (4, [999, 749, 499, 249])])
def test_few_steps_start_at_the_last_timestep(steps: int, expected: list[int]) -> None:
    scheduler = new_scheduler()
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == expected
