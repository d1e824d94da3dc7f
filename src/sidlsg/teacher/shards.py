"""A shard of text states: one safetensors file a block of prompts, read through a memory map."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import save_tensors

KEY = "states"
"""The tensor of a file: [n, L, D], in the order of the prompts."""
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def shard_path(folder: Path, number: int) -> Path:
    """Where the states of a block are."""
    return folder / "shards" / f"{number:05}.safetensors"


def uncond_path(folder: Path) -> Path:
    """Where the empty prompt's states are."""
    return folder / "uncond.safetensors"


def write_states(path: Path, states: Tensor) -> None:
    """Write [n, L, D] states as one file, complete or not at all; equal states give equal bytes."""
    save_tensors(path, {KEY: states}, {})


def map_states(path: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """The states of a file as a tensor whose rows are read from the disk when they are used.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            states: Tensor = file.get_tensor(KEY)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} holds no text states ({error}); run the encode stage again") from error
    if states.shape != shape or states.dtype != dtype:
        raise InputError(
            f"{path} holds {tuple(states.shape)} {states.dtype}, but its record says {shape} {dtype}; "
            "run the encode stage again"
        )
    return states
