"""A student's LoRA file, which diffusers loads on the teacher and on its fine-tunes, and the network with it fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from sidlsg.distil.adapter import LORA_FILE, Adapter
from sidlsg.distil.lora import kept_tensors
from sidlsg.distil.state import TrainingState
from sidlsg.runtime.errors import NotFiniteError
from sidlsg.storage.tensors import first_not_finite
from sidlsg.teacher.families.family import Family
from sidlsg.teacher.pipeline import Teacher, load_network, network_class


@dataclass(frozen=True)
class StudentWeights:
    """A finished student's weights, in float32 in the host's memory."""

    network: Any
    adapter: dict[str, Tensor]
    """As `at_scale_one` gives it; it is fused into the network, too. Empty of a training of all weights."""


def student_weights(teacher: Teacher, state: TrainingState) -> StudentWeights:
    """The EMA as a student, put together where processes have parts of it: each must call this."""
    if state.settings.lora is None:
        return StudentWeights(state.student_network(network_class(teacher.family), teacher.network.config), {})
    adapter = at_scale_one(state.settings.lora, kept_tensors(state.ema))
    # The teacher's weights in memory may be in half precision by now.
    return StudentWeights(fuse(load_network(teacher.folder), adapter), adapter)


def at_scale_one(adapter: Adapter, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter as diffusers takes one whose scale is not given, W + B A: with alpha / rank as a part of B.

    So programs that read no scale from a file, as many do, apply it like the others.
    """
    scaled = {name: each * adapter.scale if ".lora_B." in name else each for name, each in weights.items()}
    return {name: each.to("cpu").contiguous() for name, each in scaled.items()}


def fuse(network: Any, weights: Mapping[str, Tensor]) -> Any:
    """Add an adapter, as `at_scale_one` gives it, to the weights of a teacher's network in place; returns that."""
    network.load_lora_adapter(dict(weights), prefix=None)
    network.fuse_lora()
    network.unload_lora()
    return network


def write_lora_file(family: Family, weights: Mapping[str, Tensor], dtype: str, folder: Path) -> Path:
    """Write an adapter, as `at_scale_one` gives it, as `pytorch_lora_weights.safetensors`; returns the file.

    Raises:
        NotFiniteError: a weight is not finite in this dtype.
    """
    converted = {name: each.to(getattr(torch, dtype)) for name, each in weights.items()}
    if bad := first_not_finite(converted):
        raise NotFiniteError(
            f"the adapter's {bad} holds values that are not finite in {dtype}; export it in float32, or resume from "
            "an earlier checkpoint"
        )
    save = getattr(diffusers, family.pipeline).save_lora_weights
    save(folder, **{f"{family.network}_lora_layers": converted})
    return folder / LORA_FILE
