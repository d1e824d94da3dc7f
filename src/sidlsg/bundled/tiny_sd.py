"""The tiny Stable Diffusion: small networks of the real classes, its tokenizer, and their training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sidlsg.bundled.captions import all_captions, training_captions
from sidlsg.bundled.drawing import batch_of
from sidlsg.bundled.training import Log, TeachRecipe, fit
from sidlsg.runtime.randomness import counted

TEXT_WIDTH = 96
TEXT_LENGTH = 16
LATENT_SIZE = 8


def new_vae() -> AutoencoderKL:
    """32×32×3 pixels to 8×8×4 latents."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def new_unet() -> UNet2DConditionModel:
    """2.8 million parameters on 8×8×4 latents: two levels, few and wide layers."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads here
        norm_num_groups=8,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A two-layer CLIP text model for prompts of at most 16 tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule; "trailing" spacing, so that few steps start at the last timestep."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="trailing",
    )


def encode_prompts(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: list[str]) -> torch.Tensor:
    """[B, L, D] text embeddings, padded to the model's length as in the pipeline."""
    tokens = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    hidden: torch.Tensor = text_encoder(tokens.input_ids).last_hidden_state
    return hidden


def train_vae(recipe: TeachRecipe, work: Path, report: Callable[[str], None]) -> tuple[AutoencoderKL, Log]:
    """Train the autoencoder on drawn shapes, with a `scaling_factor` for latents of unit variance."""
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
        # Squared error for colours, absolute error for sharp edges.
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


END_OF_WORD = "</w>"


def new_tokenizer() -> CLIPTokenizer:
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
    bpe.train_from_iterator([caption.text for caption in all_captions()], trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]

    tokens = dict.fromkeys(alphabet + [byte + END_OF_WORD for byte in alphabet])
    tokens |= dict.fromkeys(left + right for left, right in merges)
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer: CLIPTokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)
    unsplit = [c.text for c in all_captions() if len(tokenizer(c.text).input_ids) != len(c.text.split()) + 2]
    if unsplit:
        raise RuntimeError(f"the trained merges split words of {unsplit[0]!r}")
    return tokenizer
