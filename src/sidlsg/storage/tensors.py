"""Tensors and optimizer states in safetensors files, written atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import atomic_write

Tensors = dict[str, torch.Tensor]


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor with NaN or infinity, if any."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], counters: Mapping[str, Any]) -> None:
    """Write tensors and JSON counters as one safetensors file, complete or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    atomic_write(path, save(contiguous, metadata={"counters": json.dumps(dict(counters))}))


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read a file of `save_tensors`; raises InputError where it is missing, damaged or another file."""
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        counters = parse_json(metadata.get("counters", "{}"))
        if not isinstance(counters, dict):
            raise ValueError("its counters are not a JSON object")
        return tensors, counters
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); delete or replace it") from error


def with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Prepend `prefix.` to each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors whose name starts with `prefix.`, that prefix removed."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The per-parameter state of an optimizer as `index.name` tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value if torch.is_tensor(value) else torch.tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned; the optimizer keeps its learning rates."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # Files hold contiguous tensors; fused optimizers walk memory and need the parameter's own strides.
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
