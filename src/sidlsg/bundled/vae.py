"""Trains the tiny autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from sidlsg.bundled.captions import training_captions
from sidlsg.bundled.data import batch_of
from sidlsg.bundled.recipe import TeachRecipe
from sidlsg.bundled.tiny_sd import LATENT_SIZE, new_vae
from sidlsg.bundled.training import Log, fit
from sidlsg.runtime.randomness import counted


def train_vae(recipe: TeachRecipe, work: Path, report: Callable[[str], None]) -> tuple[AutoencoderKL, Log]:
    """Train the autoencoder on drawn shapes and set its `scaling_factor` so that latents have unit variance."""
    torch.manual_seed(recipe.seed)
    vae = new_vae().to(memory_format=torch.channels_last)
    captions = training_captions()

    def loss_at(iteration: int) -> torch.Tensor:
        _, pixels = batch_of(captions, recipe.seed, "vae", iteration, recipe.vae.batch)
        posterior = vae.encode(pixels).latent_dist
        noise = counted(recipe.seed, "vae/noise", iteration).standard_normal(
            (len(pixels), 4, LATENT_SIZE, LATENT_SIZE), dtype="float32"
        )
        latents = posterior.mean + posterior.std * torch.from_numpy(noise)
        error = vae.decode(latents).sample - pixels
        # Squared error settles colours, absolute error sharpens edges.
        reconstruction = error.square().mean() + 0.1 * error.abs().mean()
        divergence = posterior.kl().mean() / latents[0].numel()
        loss: torch.Tensor = reconstruction + recipe.kl_weight * divergence
        return loss

    log = fit("vae", vae, loss_at, recipe.vae, work / "vae.safetensors", report)
    with torch.no_grad():
        _, pixels = batch_of(captions, recipe.seed, "vae/scale", 0, 2048)
        deviation = float(vae.encode(pixels).latent_dist.mean.std())
    vae.register_to_config(scaling_factor=1 / deviation)
    return vae, log
