"""The shape of a teacher: its UNet's configuration and its text encoder's size, without reading weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from sidlsg.errors import InputError
from sidlsg.places import TEACHER, resolve
from sidlsg.teacher.architectures import ARCHITECTURES, architecture_of

_NEEDED = ("sample_size", "in_channels", "cross_attention_dim")


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
    unet = _config(folder / "unet")
    missing = [name for name in _NEEDED if not isinstance(unet.get(name), int)]
    if missing:
        raise InputError(
            f"{folder / 'unet' / 'config.json'} gives no whole number for {', '.join(missing)}; "
            "give the folder of a StableDiffusionPipeline whose UNet is a UNet2DConditionModel"
        )
    with torch.device("meta"):
        text_model = CLIPTextModel(CLIPTextConfig(**_config(folder / "text_encoder")))
    return Shape(name=place, unet=unet, text_encoder=sum(p.numel() for p in text_model.parameters()))


def _config(component: Path) -> dict[str, Any]:
    path = component / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give the folder of a StableDiffusionPipeline") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; save the pipeline again")
    return value
