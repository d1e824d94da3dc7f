"""Tiny teachers of other families than Stable Diffusion, of the real classes, on the bundled teacher's latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.tiny_sd import (
    LATENT_SIZE,
    TEXT_WIDTH,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    text_config,
)
from sidlsg.teacher.families.sdxl import TIME_IDS

HALF_WIDTH = TEXT_WIDTH // 2
"""Width of a text encoder where the embeddings of two are joined."""
T5_LENGTH = 12
"""Tokens of a caption and the end marker, with two to spare."""
SIZE_WIDTH = 8
"""Channels of each of the sizes that Stable Diffusion XL's UNet takes."""


def new_projecting_encoder(tokenizer: Any) -> CLIPTextModelWithProjection:
    """A two-layer CLIP text model of half the width, with a pooled embedding."""
    return CLIPTextModelWithProjection(CLIPTextConfig(**text_config(tokenizer, HALF_WIDTH)))


def new_sdxl(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """A Stable Diffusion XL without training: the bundled UNet with two text encoders and sizes."""
    tokenizer = new_tokenizer()
    unet = new_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        projection_class_embeddings_input_dim=HALF_WIDTH + TIME_IDS * SIZE_WIDTH,
    )
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=new_text_encoder(tokenizer, HALF_WIDTH),
        text_encoder_2=new_projecting_encoder(tokenizer),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.to(memory_format=torch.channels_last),
        scheduler=new_scheduler(),
        add_watermarker=False,
    )


def new_t5_tokenizer() -> T5Tokenizer:
    """A tokenizer with a piece for each word of the domain."""
    words = sorted({word for caption in SHAPES.all_captions() for word in caption.text.split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in words)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)


def new_t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """A two-layer T5 encoder."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=TEXT_WIDTH // 4,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def with_shift(vae: AutoencoderKL) -> AutoencoderKL:
    """The VAE with a `shift_factor`, so that latents have mean 0, as those of flow-matching families have."""
    with torch.no_grad():
        _, pixels = SHAPES.batch(SHAPES.training_captions(), 0, "vae/scale", 0, 2048)
        vae.register_to_config(shift_factor=float(vae.encode(pixels).latent_dist.mean.mean()))
    return vae


def new_sd3(vae: AutoencoderKL) -> StableDiffusion3Pipeline:
    """A Stable Diffusion 3 without training: a transformer of 1.6 million parameters, and three text encoders."""
    tokenizer, t5_tokenizer = new_tokenizer(), new_t5_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=LATENT_SIZE,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=5,
            attention_head_dim=32,
            num_attention_heads=3,
            joint_attention_dim=TEXT_WIDTH,
            caption_projection_dim=96,
            pooled_projection_dim=2 * HALF_WIDTH,
            pos_embed_max_size=LATENT_SIZE,
            qk_norm="rms_norm",
        ),
        vae=with_shift(vae),
        text_encoder=new_projecting_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=new_projecting_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=new_t5(t5_tokenizer),
        tokenizer_3=t5_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def new_flux(vae: AutoencoderKL) -> FluxPipeline:
    """A guidance-distilled FLUX.1 without training: tokens of four latent pixels, of both kinds of blocks."""
    tokenizer, t5_tokenizer = new_tokenizer(), new_t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=4 * vae.config.latent_channels,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=3,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=HALF_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    transformer.register_to_config(sample_size=LATENT_SIZE)
    return FluxPipeline(
        transformer=transformer,
        vae=with_shift(vae),
        text_encoder=new_text_encoder(tokenizer, HALF_WIDTH),
        tokenizer=tokenizer,
        text_encoder_2=new_t5(t5_tokenizer),
        tokenizer_2=t5_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


NEW: dict[str, Callable[[AutoencoderKL], Any]] = {"sdxl": new_sdxl, "sd3": new_sd3, "flux": new_flux}
"""Untrained pipelines by family, of a trained VAE."""
