"""Makes a teacher's UNet into the networks of a run: memory layout, activation checkpointing, compiled blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from sidlsg.distil.settings import Settings

BLOCKS = (BasicTransformerBlock, ResnetBlock2D)
"""What is compiled: the repeated parts, each small enough for a short compilation that all its copies share."""
FORMS = 128
"""In how many forms a kind of block may be compiled; beyond, the compiler would quietly leave the rest uncompiled.

Stable Diffusion's residual blocks come in 14 shapes, each trained, without gradient, or with its inputs' gradient
alone, on a micro-batch or on both guidance halves of it, and the teacher's in another precision besides.
"""


def prepared(network: Any, settings: Settings, device: torch.device, compiled: bool, trained: bool) -> Any:
    """Put a network where and how it runs, in place: on its device, channels last, with the settings' blocks.

    Args:
        network: a `UNet2DConditionModel`.
        settings: how the machine is used.
        device: where it runs.
        compiled: whether blocks are compiled; see `compiles`.
        trained: whether its weights collect gradients.
    """
    network.to(device).requires_grad_(trained)
    network.to(memory_format=torch.channels_last)
    set_activation_checkpointing(network, settings.activation_checkpointing)
    if compiled:
        compile_blocks(network)
    return network


def set_activation_checkpointing(network: Any, on: bool) -> None:
    """Let each block compute its activations again in the backward pass, frozen networks included.

    Gradient flows through the frozen teacher and fake score to their inputs, so their activations are kept as well.
    """
    if on:
        network.enable_gradient_checkpointing()
    else:
        network.disable_gradient_checkpointing()


def compile_blocks(network: nn.Module, backend: str = "inductor") -> int:
    """Compile each repeated block in place; returns how many there are. Nothing is compiled before the first call.

    Args:
        network: whose blocks.
        backend: what compiles what was traced; `eager` runs it as it is.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, FORMS)
    blocks = [module for module in network.modules() if isinstance(module, BLOCKS)]
    for block in blocks:
        # Else the compiler takes the second shape that it meets for one of many, and makes slower code for all.
        block.compile(backend=backend, dynamic=False)
    return len(blocks)


def compiles(network: Any, device: torch.device, report: Callable[[str], None]) -> bool:
    """Whether this machine can compile one of the network's blocks, forward and backward; says why where it cannot."""
    first = next((module for module in network.modules() if isinstance(module, ResnetBlock2D)), None)
    if first is None:
        return False
    block = copy.deepcopy(first).to(device)
    width = network.config.block_out_channels[0] * 4
    x = torch.randn(2, block.in_channels, 8, 8, device=device, requires_grad=True)
    try:
        with torch.enable_grad():
            compiled: Any = torch.compile(block)
            out = compiled(x, torch.randn(2, width, device=device))
            torch.autograd.backward(out.sum())
    except Exception as error:  # compilers fail in every way there is
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        report(f"blocks are not compiled, and training goes on without: {type(error).__name__}: {reason[:200]}")
        return False
    finally:
        torch.compiler.reset()
    return True
