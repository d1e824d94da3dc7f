"""Loading of diffusers folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from sidlsg.runtime.errors import InputError, first_line
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.tensors import first_not_finite
from sidlsg.teacher.config import SAVE_AGAIN, SCHEDULER, TOKENIZER, unet_config
from sidlsg.teacher.folder import INDEX, check_folder, folder_digest, is_present
from sidlsg.teacher.schedule import NoiseSchedule
from sidlsg.teacher.text_encoder import PromptEncoder

NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


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
    """The stock pipeline of a folder, in float32, from local safetensors alone; raises InputError if it is unusable."""
    check_folder(folder)
    quiet_libraries()
    networks = {name: _load_network(kind, folder / name) for name, kind in NETWORKS.items() if name != "unet"}
    networks["unet"] = load_unet(folder)
    with as_input_error(folder / TOKENIZER):
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    entries, known = len(tokenizer), networks["text_encoder"].config.vocab_size
    if entries > known:
        raise InputError(
            f"{folder / 'tokenizer'} has {entries} entries, but the text encoder knows {known}; save both together"
        )
    kind = read_object(folder / INDEX, SAVE_AGAIN)["scheduler"][1]
    with as_input_error(folder / SCHEDULER):
        scheduler = getattr(diffusers, kind).from_pretrained(folder / "scheduler", local_files_only=True)
    with as_input_error(folder):
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
            tokenizer=tokenizer,
            scheduler=scheduler,
            **networks,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_unet(folder: Path) -> UNet2DConditionModel:
    """The UNet of a checked folder, in float32; raises InputError if it is unusable."""
    unet = _load_network(UNet2DConditionModel, folder / "unet")
    # It may be a pair in the file.
    unet.register_to_config(sample_size=unet_config(folder)["sample_size"])
    return unet


def check_optional(folder: Path) -> None:
    """Check that the safety checker and its feature extractor, which a student inherits unused, can be loaded.

    Raises:
        InputError: one cannot.
    """
    index = read_object(folder / INDEX, SAVE_AGAIN)
    if is_present(index, "safety_checker"):
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

        _load_network(StableDiffusionSafetyChecker, folder / "safety_checker")
    if is_present(index, "feature_extractor"):
        from transformers import CLIPImageProcessor

        with as_input_error(folder / "feature_extractor"):
            CLIPImageProcessor.from_pretrained(folder / "feature_extractor", local_files_only=True)


def check_stock(folder: Path, what: str) -> None:
    """Check that the stock pipeline loads a folder, which `what` names in the message.

    Raises:
        InputError: it does not.
    """
    quiet_libraries()
    try:
        StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except Exception as error:  # any type, as in `as_input_error`
        reason = first_line(error).replace(str(folder), "its folder")
        raise InputError(f"the stock pipeline does not load {what}: {reason}; report this with the versions") from error


def quiet_libraries() -> None:
    """Turn off the libraries' progress bars and warnings."""
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _load_network(kind: Any, folder: Path) -> Any:
    with as_input_error(folder):
        network, found = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    # The libraries would use random weights instead.
    missing = sorted(found["missing_keys"])
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} weights, such as {missing[0]}; save the whole pipeline")
    unused = sorted(name for name in found["unexpected_keys"] if name.split(".")[-1] != "position_ids")
    if unused:
        raise InputError(
            f"{folder} holds {len(unused)} weights that a {kind.__name__} does not use, such as {unused[0]}; fuse "
            "an adapter into the network, and save the pipeline again"
        )
    if bad := first_not_finite(network.state_dict()):
        raise InputError(
            f"{folder} holds values that are not finite, in {bad}, which would spoil every image; take another copy, "
            "or save the pipeline in float32"
        )
    return network


@contextlib.contextmanager
def as_input_error(path: Path) -> Iterator[None]:
    """Turn a library's errors into InputErrors that name the path."""
    try:
        yield
    except Exception as error:  # for a damaged folder the libraries raise nearly any type
        reason = first_line(error)
        raise InputError(f"{path} cannot be loaded: {reason}; save the whole pipeline again") from error


def load_teacher(
    folder: Path,
    device: torch.device | str = "cpu",
    text_device: torch.device | str | None = None,
    sha256: str = "",
) -> Teacher:
    """Load and freeze a teacher; raises InputError if its folder is unusable.

    Args:
        folder: of a `StableDiffusionPipeline`.
        device: of UNet and VAE.
        text_device: of the text encoder and the embeddings; by default `device`.
        sha256: the model's digest if it is known; empty to compute it.
    """
    pipeline = load_pipeline(folder)
    text_device = device if text_device is None else text_device
    for network, target in ((pipeline.unet, device), (pipeline.vae, device), (pipeline.text_encoder, text_device)):
        network.requires_grad_(False).eval().to(target)
    pipeline.unet.to(memory_format=torch.channels_last)
    return Teacher(
        folder=folder,
        sha256=sha256 or folder_digest(folder),
        unet=pipeline.unet,
        vae=pipeline.vae,
        encode=PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, text_device),
        scheduler=pipeline.scheduler,
        schedule=NoiseSchedule.from_scheduler(pipeline.scheduler).to(device),
    )
