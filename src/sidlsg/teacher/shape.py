"""The shape of a teacher: its UNet's configuration and its text encoder's size, without reading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from sidlsg.distil.estimate.fake_networks import meta_unet
from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import TEACHER, resolve
from sidlsg.teacher.architectures import ARCHITECTURES, architecture_of
from sidlsg.teacher.config import TEXT_ENCODER, UNET, read_config, unet_config
from sidlsg.teacher.pipeline import as_input_error


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an estimate needs to know of a teacher."""

    name: str
    unet: Mapping[str, Any]
    """Configuration of its `UNet2DConditionModel`."""
    text_encoder: int
    """Parameters."""


def shape_of(teacher: str, recipe: str) -> Shape:
    """The shape of a teacher's folder, or of the architecture that a recipe is named after.

    Args:
        teacher: the place of a `StableDiffusionPipeline`'s folder; empty for the recipe's own architecture.
        recipe: a recipe's name.

    Raises:
        InputError: there is no such folder or architecture, or its configuration cannot be read.
    """
    if not teacher and recipe != "tiny":
        architecture = architecture_of(recipe)
        return Shape(name=architecture.name, unet=architecture.unet, text_encoder=architecture.text_encoder_parameters)
    place = teacher or TEACHER
    folder = resolve(place)
    if not folder.is_dir():
        raise InputError(
            f"{place} is a file, which does not say how its networks are built; give a folder with unet/config.json, "
            f"or no teacher and a recipe of {', '.join(ARCHITECTURES)}"
        )
    unet, encoder = unet_config(folder), read_config(folder, TEXT_ENCODER)
    with as_input_error(folder / UNET):
        meta_unet(unet)
    with as_input_error(folder / TEXT_ENCODER), torch.device("meta"):
        text_model = CLIPTextModel(CLIPTextConfig(**encoder))
    return Shape(name=place, unet=unet, text_encoder=sum(p.numel() for p in text_model.parameters()))
