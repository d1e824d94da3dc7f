"""Loading of diffusers folders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, ConfigMixin, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from sidlsg.runtime.errors import InputError, first_line
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.tensors import first_not_finite
from sidlsg.teacher.config import INDEX, SAVE_AGAIN, family_in, is_present, network_config, present, read_configs
from sidlsg.teacher.families.family import Family
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.schedule import FlowSchedule, NoiseSchedule, schedule_of
from sidlsg.teacher.text_encoder import PromptEncoder

LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


@dataclass(frozen=True)
class Teacher:
    """A pretrained teacher, frozen, in float32."""

    folder: Path
    sha256: str
    family: Family
    network: Any
    """What is distilled."""
    vae: AutoencoderKL
    encode: PromptEncoder
    scheduler: Any
    """The diffusers scheduler of the folder."""
    schedule: NoiseSchedule | FlowSchedule

    @property
    def call(self) -> Callable[..., Any]:
        """The network as a callable of x_t, t and conditioning."""
        return self.family.takes(self.network)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its latents."""
        return self.family.latent_shape(self.network.config)


def network_class(family: Family) -> Any:
    """The class of a family's network that is distilled."""
    component = family.components[family.network]
    return getattr(LIBRARIES[component.library], component.classes[0])


def load_pipeline(folder: Path, *, only_text: bool = False) -> Any:
    """The stock pipeline of a folder, in float32, from local safetensors alone.

    Args:
        folder: of a family's pipeline.
        only_text: leave out the network that is distilled and the VAE.

    Raises:
        InputError: the folder is unusable.
    """
    check_folder(folder)
    family = family_in(folder)
    parts: dict[str, Any] = dict.fromkeys(family.components)
    for name in present(folder):
        if not (only_text and name in (family.network, "vae")):
            parts[name] = load_component(folder, name)
    for name, tokenizer in family.text_encoders.items():
        encoder = parts[name]
        if encoder is not None and (entries := len(parts[tokenizer])) > (known := encoder.config.vocab_size):
            raise InputError(
                f"{folder / tokenizer} has {entries} entries, but the text encoder knows {known}; save both together"
            )
    with as_input_error(folder):
        pipeline = getattr(diffusers, family.pipeline).from_pretrained(
            folder, local_files_only=True, **family.off, **parts
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_component(folder: Path, name: str) -> Any:
    """A component of a checked folder, in float32; raises InputError if it is unusable."""
    quiet_libraries()
    family = family_in(folder)
    component, kind = family.components[name], read_object(folder / INDEX, SAVE_AGAIN)[name][1]
    made = getattr(LIBRARIES[component.library], kind)
    if not component.weights:
        with as_input_error(folder / name / component.config):
            return made.from_pretrained(folder / name, local_files_only=True)
    network = _load_network(made, folder / name)
    if name == family.network and (size := network_config(folder).get("sample_size")):
        network.register_to_config(sample_size=size)  # it may be a pair in the file
    return network


def load_network(folder: Path) -> Any:
    """The network of a checked folder that is distilled, in float32; raises InputError if it is unusable."""
    return load_component(folder, family_in(folder).network)


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
        DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
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
    if isinstance(network, ConfigMixin):
        # Else the path of the folder on this machine would be written with the network.
        network.register_to_config(_name_or_path=None)
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
        folder: of a family's pipeline.
        device: of network and VAE.
        text_device: of the text encoders and the embeddings; by default `device`.
        sha256: the model's digest if it is known; empty to compute it.
    """
    pipeline, family = load_pipeline(folder), family_in(folder)
    text_device = device if text_device is None else text_device
    network = getattr(pipeline, family.network)
    for each in (network, pipeline.vae):
        each.requires_grad_(False).eval().to(device)
    network.to(memory_format=torch.channels_last)
    return Teacher(
        folder=folder,
        sha256=sha256 or folder_digest(folder),
        family=family,
        network=network,
        vae=pipeline.vae,
        encode=prompt_encoder(folder, pipeline, text_device),
        scheduler=pipeline.scheduler,
        schedule=schedule_of(family, pipeline.scheduler).to(device),
    )


def prompt_encoder(folder: Path, pipeline: Any, device: torch.device | str) -> PromptEncoder:
    """The encoder of a folder's loaded pipeline, its text encoders frozen and on the embeddings' device."""
    family = family_in(folder)
    for name in family.text_encoders:
        if (encoder := getattr(pipeline, name)) is not None:
            encoder.requires_grad_(False).eval().to(device)
    return PromptEncoder(family, pipeline, read_configs(folder), device)
