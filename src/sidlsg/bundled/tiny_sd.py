"""The tiny Stable Diffusion: small networks of the real classes, its tokenizer, and the training of tiny teachers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.training import TINY, Log, TeachRecipe, fit
from sidlsg.distil.networks import COMPUTE, autocasting
from sidlsg.runtime.randomness import counted
from sidlsg.storage.files import sha256_bytes
from sidlsg.teacher.families.family import FLOW_TIMES, Family
from sidlsg.teacher.schedule import FlowSchedule, schedule_of

TEXT_WIDTH = 96
TEXT_LENGTH = 16
LATENT_SIZE = 8


def new_vae(recipe: TeachRecipe = TINY) -> AutoencoderKL:
    """Pixels to 8×8 latents."""
    levels = len(recipe.vae_channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.vae_channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=recipe.vae_groups,
        sample_size=LATENT_SIZE * 2 ** (levels - 1),
        mid_block_add_attention=False,
    )


def new_unet(recipe: TeachRecipe = TINY, **added: Any) -> UNet2DConditionModel:
    """A UNet on 8×8 latents with few and wide layers, 2.8 million parameters by default; `added` are more arguments."""
    levels = len(recipe.unet_channels)
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=recipe.unet_channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads here
        norm_num_groups=8,
        **added,
    )


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int = 2) -> dict[str, Any]:
    """The values of a small CLIP text model for prompts of at most 16 tokens."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_LENGTH,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def new_text_encoder(tokenizer: CLIPTokenizer, width: int = TEXT_WIDTH, layers: int = 2) -> CLIPTextModel:
    """A CLIP text model of `text_config`."""
    return CLIPTextModel(CLIPTextConfig(**text_config(tokenizer, width, layers)))


def new_scheduler(zero_terminal_snr: bool = False) -> DDIMScheduler:
    """Stable Diffusion's noise schedule; "trailing" spacing, so that few steps start at the last timestep.

    With `zero_terminal_snr` it is rescaled to end in noise alone, and v is predicted (arXiv 2305.08891).
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if zero_terminal_snr else "epsilon",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def train_vae(
    domain: Domain, recipe: TeachRecipe, work: Path, report: Callable[[str], None]
) -> tuple[AutoencoderKL, Log]:
    """Train the autoencoder on drawn images, with a `scaling_factor` for latents of unit variance."""
    torch.manual_seed(recipe.seed)
    vae = new_vae(recipe).to(memory_format=torch.channels_last)
    captions = domain.training_captions()

    def loss_at(iteration: int) -> torch.Tensor:
        _, pixels = domain.batch(captions, recipe.seed, "vae", iteration, recipe.vae.batch)
        posterior = vae.encode(pixels).latent_dist
        noise = counted(recipe.seed, "vae/noise", iteration).standard_normal(
            (len(pixels), recipe.latent_channels, LATENT_SIZE, LATENT_SIZE), dtype="float32"
        )
        latents = posterior.mean + posterior.std * torch.from_numpy(noise)
        error = vae.decode(latents).sample - pixels
        # Squared error for colours, absolute error for sharp edges.
        reconstruction = error.square().mean() + 0.1 * error.abs().mean()
        divergence = posterior.kl().mean() / latents[0].numel()
        loss: torch.Tensor = reconstruction + recipe.kl_weight * divergence
        return loss

    made_from = {"domain": domain.name, **recipe.values("seed vae_channels vae_groups latent_channels kl_weight")}
    log = fit("vae", vae, loss_at, recipe.vae, work / "vae.safetensors", report, made_from)
    with torch.no_grad():
        _, pixels = domain.batch(captions, recipe.seed, "vae/scale", 0, 2048)
        deviation = float(vae.encode(pixels).latent_dist.mean.std())
    vae.register_to_config(scaling_factor=1 / deviation)
    return vae, log


def new_sd(domain: Domain, vae: AutoencoderKL, recipe: TeachRecipe) -> StableDiffusionPipeline:
    """The tiny Stable Diffusion before its UNet and text encoder are trained."""
    torch.manual_seed(recipe.seed + 1)
    unet, tokenizer = new_unet(recipe).to(memory_format=torch.channels_last), new_tokenizer(domain)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=new_text_encoder(tokenizer, layers=recipe.text_layers),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(recipe.zero_terminal_snr),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def drawn_timesteps(draws: np.random.Generator, count: int, last: int, power: float) -> torch.Tensor:
    """[count] timesteps from 0 to `last`: uniform at power 1, and more of them noisy above it."""
    if power == 1:
        return torch.from_numpy(draws.integers(0, last + 1, count))
    below = (draws.random(count) ** power * (last + 1)).astype(np.int64)
    return torch.from_numpy(last - below)


def train_diffusion(
    domain: Domain, recipe: TeachRecipe, family: Family, pipeline: Any, work: Path, report: Callable[[str], None]
) -> Log:
    """Train a pipeline's network and text encoders together, in place, on latents of drawn images."""
    captions, batch, vae = domain.teaching_captions(), recipe.diffusion.batch, pipeline.vae.requires_grad_(False)
    scale, shift = float(vae.config.scaling_factor), float(vae.config.shift_factor or 0)
    network, schedule = getattr(pipeline, family.network), schedule_of(family, pipeline.scheduler)
    call = family.takes(autocasting(network, recipe.diffusion_precision, torch.device("cpu")))
    dtype = COMPUTE[recipe.diffusion_precision]
    parts = {name: getattr(pipeline, name) for name in family.components}
    # A tokenizer's is what its file will hold.
    configs = {name: part.init_kwargs if hasattr(part, "init_kwargs") else part.config for name, part in parts.items()}

    def loss_at(iteration: int) -> torch.Tensor:
        chosen, pixels = domain.batch(captions, recipe.seed, "diffusion", iteration, batch)
        draws = counted(recipe.seed, "diffusion/noise", iteration)
        dropped = draws.random(batch) < recipe.prompt_dropout
        prompts = ["" if drop else c.text for c, drop in zip(chosen, dropped, strict=True)]
        if isinstance(schedule, FlowSchedule):
            # Stable Diffusion 3's own: the logit of σ is normal.
            t = torch.from_numpy(draws.standard_normal(batch, dtype="float32")).sigmoid() * FLOW_TIMES
        else:
            t = drawn_timesteps(draws, batch, schedule.last, recipe.timestep_power)
        shape = (2, batch, vae.config.latent_channels, LATENT_SIZE, LATENT_SIZE)
        posterior_noise, noise = torch.from_numpy(draws.standard_normal(shape, dtype="float32"))
        with torch.no_grad():
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                posterior = vae.encode(pixels).latent_dist
            latents = scale * (posterior.mean + posterior.std * posterior_noise - shift)
        encoded = family.encode(pipeline, prompts, "cpu", configs)
        prediction = call(schedule.add_noise(latents, noise, t), t, encoded).sample
        return nn.functional.mse_loss(prediction, schedule.target(latents, noise, t))

    trained = nn.ModuleList([network, *(getattr(pipeline, name) for name in family.text_encoders)])
    made_from = {
        "domain": domain.name,
        "family": family.name,
        "vae_sha256": sha256_bytes(save({name: tensor.contiguous() for name, tensor in vae.state_dict().items()})),
        **recipe.values("seed unet_channels text_layers diffusion_precision zero_terminal_snr timestep_power"),
        **recipe.values("prompt_dropout"),
    }
    return fit("diffusion", trained, loss_at, recipe.diffusion, work / "diffusion.safetensors", report, made_from)


END_OF_WORD = "</w>"
MERGED = 2000
"""Captions from which a tokenizer's merges are made, at most."""


def new_tokenizer(domain: Domain = SHAPES) -> CLIPTokenizer:
    """A tokenizer for any text, with one token for each word of the domain.

    The vocabulary has CLIP's scheme: all bytes, all bytes at a word's end, an entry per merge, start and end markers.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, end_of_word_suffix=END_OF_WORD, show_progress=False
    )
    captions = domain.all_captions()
    # Few captions have all words, and merges are counted.
    bpe.train_from_iterator([caption.text for caption in captions[:: 1 + len(captions) // MERGED]], trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]

    tokens = dict.fromkeys(alphabet + [byte + END_OF_WORD for byte in alphabet])
    tokens |= dict.fromkeys(left + right for left, right in merges)
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer: CLIPTokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)
    words = {word for caption in captions for word in caption.text.split()}
    if split := [word for word in sorted(words) if len(tokenizer(word).input_ids) != 3]:
        raise RuntimeError(f"the trained merges split {split[0]!r}")
    return tokenizer
