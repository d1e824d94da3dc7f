"""Trains the tiny UNet and text encoder as Stable Diffusion was trained: noise prediction with prompt dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from sidlsg.bundled.captions import training_captions
from sidlsg.bundled.data import batch_of
from sidlsg.bundled.recipe import TeachRecipe
from sidlsg.bundled.tiny_sd import LATENT_SIZE, encode_prompts, new_scheduler, new_text_encoder, new_unet
from sidlsg.bundled.training import Log, fit
from sidlsg.runtime.randomness import counted


def train_diffusion(
    recipe: TeachRecipe, vae: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path, report: Callable[[str], None]
) -> tuple[UNet2DConditionModel, CLIPTextModel, Log]:
    """Train the UNet and the text encoder together on latents of drawn shapes."""
    torch.manual_seed(recipe.seed + 1)
    unet = new_unet().to(memory_format=torch.channels_last)
    text_encoder = new_text_encoder(tokenizer)
    alphas_cumprod = new_scheduler().alphas_cumprod
    captions = training_captions()
    scale = float(vae.config.scaling_factor)
    batch = recipe.diffusion.batch
    vae.requires_grad_(False)

    def loss_at(iteration: int) -> torch.Tensor:
        chosen, pixels = batch_of(captions, recipe.seed, "diffusion", iteration, batch)
        draws = counted(recipe.seed, "diffusion/noise", iteration)
        dropped = draws.random(batch) < recipe.prompt_dropout
        prompts = ["" if drop else c.text for c, drop in zip(chosen, dropped, strict=True)]
        timesteps = torch.from_numpy(draws.integers(0, len(alphas_cumprod), batch))
        shape = (2, batch, 4, LATENT_SIZE, LATENT_SIZE)
        posterior_noise, noise = torch.from_numpy(draws.standard_normal(shape, dtype="float32"))
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
            latents = scale * (posterior.mean + posterior.std * posterior_noise)
        alpha_bar = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        hidden = encode_prompts(tokenizer, text_encoder, prompts)
        prediction = unet(noisy, timesteps, hidden).sample
        return nn.functional.mse_loss(prediction, noise)

    both = nn.ModuleList([unet, text_encoder])
    log = fit("diffusion", both, loss_at, recipe.diffusion, work / "diffusion.safetensors", report)
    return unet, text_encoder, log
