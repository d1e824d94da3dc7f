"""A checkpoint as the released code writes it: the bundled teacher's UNet, slightly moved, as a pickled module."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel


@pytest.fixture(scope="session")
def generator(assets: Path) -> UNet2DConditionModel:
    """A UNet that differs from the teacher's in every weight."""
    unet = UNet2DConditionModel.from_pretrained(assets / "tiny-sd", subfolder="unet", use_safetensors=True)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=noise)
    return unet


@pytest.fixture
def released(generator: UNet2DConditionModel, tmp_path: Path) -> Callable[..., Path]:
    """Writes it: a copy, in evaluation mode, without gradients, under the key `ema`."""

    def write(
        name: str = "network-snapshot-1.000000-018835.pkl",
        half: bool = False,
        protocol: int = pickle.DEFAULT_PROTOCOL,
        change: Callable[[UNet2DConditionModel], Any] = lambda unet: unet,
    ) -> Path:
        module = copy.deepcopy(generator).eval().requires_grad_(False).cpu()
        with (tmp_path / name).open("wb") as file:
            pickle.dump({"ema": change(module.half() if half else module)}, file, protocol=protocol)
        return tmp_path / name

    return write


@pytest.fixture
def teacher(assets: Path) -> Path:
    """The bundled teacher."""
    return assets / "tiny-sd"
