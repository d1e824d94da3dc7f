"""Networks that are one frozen network with a LoRA adapter each, so that its weights are in memory once.

Each network has modules of its own around the same parameters. So no adapter is ever switched: a backward pass, with
what activation checkpointing computes again in it, belongs to the adapter of its own forward pass.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from sidlsg.distil.adapter import TARGETS, Adapter
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted

NAME = "default"
"""The adapter's name in its network, which has no other."""
_PART = f".{NAME}."


def adapted(base: Any, adapter: Adapter, seed: int, number: int) -> Any:
    """A network of the parameters of `base`, which are frozen, and of an adapter's own.

    Args:
        base: the teacher's network.
        adapter: the recipe's.
        seed: of the run.
        number: which of the run's adapters it is; each has an A of its own, and B = 0.

    Raises:
        InputError: a target matches no layer.
    """
    base.requires_grad_(False)
    network = copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()})
    # Without memory: the library gives adapters the base's precision, in which they could not be trained.
    with torch.device("meta"):
        network.add_adapter(lora_config(base, adapter), NAME)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(counted(seed, "distil/adapter", number).integers(2**63)))
        for layer in lora_layers(network):
            weight = layer.get_base_layer().weight
            dtype = torch.promote_types(weight.dtype, torch.float32)
            for part in (layer.lora_A[NAME], layer.lora_B[NAME]):
                part.weight = nn.Parameter(torch.empty(part.weight.shape, dtype=dtype, device=weight.device))
            layer.reset_lora_parameters(NAME, True)
            # Autocast casts inputs; cast to float32 before, they would be kept once more for the backward pass.
            layer.cast_input_dtype_enabled = False
    return network


def lora_config(network: Any, adapter: Adapter) -> LoraConfig:
    """The library's form of an adapter, with the targets that the network has.

    Raises:
        InputError: a target matches no layer.
    """
    kinds = (nn.Linear, nn.Conv2d)
    layers = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    missing = [each for each in adapter.targets if not any(f".{name}".endswith(f".{each}") for name in layers)]
    if missing and (adapter.targets != TARGETS or len(missing) == len(TARGETS)):
        raise InputError(
            f"adapter target {missing[0]!r} matches no linear or convolutional layer of this teacher; its layers are: "
            f"{', '.join(sorted({_kind(name) for name in layers}))}"
        )
    there = [each for each in adapter.targets if each not in missing]
    return LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, target_modules=there, lora_dropout=0.0)


def _kind(name: str) -> str:
    """The end of a layer's name that says what it is, such as `to_q` or `to_out.0`: without a block's own number."""
    found = re.search(r"(ff\.net\.\d+(\.proj)?|(down|up)samplers\.\d+\.\w+|[a-z]\w*(\.\d+)*)$", name)
    return found[0] if found else name


def lora_layers(network: nn.Module) -> list[Any]:
    """A network's adapted layers, in order; none of a network without adapter."""
    if "peft_config" not in vars(network):  # looked at more often than there is time to search
        return []
    return [module for module in network.modules() if isinstance(module, LoraLayer)]


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """What training may change, by name: an adapter's parameters, or all of a network without adapter."""
    parameters = dict(network.named_parameters())
    if not lora_layers(network):
        return parameters
    return {name: each for name, each in parameters.items() if _PART in name}


def kept_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a network, live: an adapter's weights by their names in a LoRA file, or all."""
    if not lora_layers(network):
        return network.state_dict()
    return {name.replace(_PART, "."): each.detach() for name, each in trained_parameters(network).items()}
