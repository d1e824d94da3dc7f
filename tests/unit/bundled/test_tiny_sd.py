"""The tiny Stable Diffusion's networks: real classes whose parts fit together, small enough to bundle."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from sidlsg.bundled.tiny_sd import (
    LATENT_SIZE,
    TEXT_LENGTH,
    TEXT_WIDTH,
    encode_prompts,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    new_vae,
)


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


def test_the_unet_takes_the_text_encoders_states() -> None:
    tokenizer = new_tokenizer()
    text_encoder = new_text_encoder(tokenizer).eval()
    with torch.no_grad():
        states = encode_prompts(tokenizer, text_encoder, ["a small red circle", ""])
        assert states.shape == (2, TEXT_LENGTH, TEXT_WIDTH)
        x = torch.randn(2, 4, LATENT_SIZE, LATENT_SIZE)
        unet = new_unet().eval()
        output = unet(x, torch.tensor([3, 999]), states).sample
        assert output.shape == x.shape
        # It listens to the text.
        assert not torch.allclose(output, unet(x, torch.tensor([3, 999]), states.flip(0)).sample, atol=1e-6)


def test_the_noise_schedule_is_stable_diffusions() -> None:
    scheduler = new_scheduler()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4)
    assert scheduler.config.prediction_type == "epsilon"


@pytest.mark.parametrize(("steps", "expected"), [(1, [999]), (4, [999, 749, 499, 249])])
def test_few_steps_start_at_the_last_timestep(steps: int, expected: list[int]) -> None:
    scheduler = new_scheduler()
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == expected


def test_prompts_are_encoded_as_the_pipeline_encodes_them() -> None:
    tokenizer = new_tokenizer()
    text_encoder = new_text_encoder(tokenizer).eval()
    pipeline = StableDiffusionPipeline(
        vae=new_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=new_unet(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    prompts = ["a small red circle on a blue background", "one two three four five six seven eight nine ten eleven"]
    with torch.no_grad():
        cond, uncond = pipeline.encode_prompt(prompts, torch.device("cpu"), 1, True)
        assert torch.allclose(encode_prompts(tokenizer, text_encoder, prompts), cond, atol=1e-6)
        assert torch.allclose(encode_prompts(tokenizer, text_encoder, ["", ""]), uncond, atol=1e-6)
