"""Loads a teacher from its diffusers folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from sidlsg.errors import InputError
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.schedule import NoiseSchedule
from sidlsg.teacher.text import PromptEncoder


@dataclass(frozen=True)
class Teacher:
    """A pretrained Stable Diffusion, frozen, in float32."""

    folder: Path
    sha256: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encode: PromptEncoder
    scheduler: Any
    """The diffusers scheduler of the folder."""
    schedule: NoiseSchedule

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its latents."""
        size = self.unet.config.sample_size
        return self.unet.config.in_channels, size, size


def load_pipeline(folder: Path) -> Any:
    """The stock pipeline of a folder, in float32 and silent, from safetensors on disk alone.

    Raises:
        InputError: the folder is not a usable `StableDiffusionPipeline`.
    """
    check_folder(folder)
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            safety_checker=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} does not load as a StableDiffusionPipeline: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_teacher(folder: Path, device: torch.device | str = "cpu") -> Teacher:
    """Load and freeze a teacher.

    Raises:
        InputError: the folder is not a usable `StableDiffusionPipeline`.
    """
    pipeline = load_pipeline(folder)
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        network.requires_grad_(False).eval().to(device)
    pipeline.unet.to(memory_format=torch.channels_last)
    return Teacher(
        folder=folder,
        sha256=folder_digest(folder),
        unet=pipeline.unet,
        vae=pipeline.vae,
        encode=PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, device),
        scheduler=pipeline.scheduler,
        schedule=NoiseSchedule.from_scheduler(pipeline.scheduler).to(device),
    )
