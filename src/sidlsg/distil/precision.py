"""The named precisions: in what the networks compute; weights, x0 arithmetic, losses and EMA stay float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

COMPUTE: dict[str, torch.dtype | None] = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What a network's products are computed in under autocast; None where there is no autocast."""


def set_matmul_precision(precision: str) -> None:
    """Allow TF32 in float32 products for `tf32` alone: the library's own defaults differ by operation."""
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def autocasting(network: nn.Module, precision: str, device: torch.device, *, gpu: bool = False) -> Callable[..., Any]:
    """The network as a callable whose products run in the precision; its weights stay as they are.

    Only the call is covered: what is done with its output is float32 again.

    Args:
        network: to call.
        precision: one of `COMPUTE`.
        device: the network's.
        gpu: do as a GPU does, where the device only stands for one.
    """
    dtype = COMPUTE[precision]
    if dtype is None:
        return network

    def call(*args: Any, **kwargs: Any) -> Any:
        # What activation checkpointing computes again runs outside this call, and must be what was computed in it.
        again = any(getattr(module, "gradient_checkpointing", False) for module in network.modules())
        attention = _Float32Attention() if device.type == "cpu" and not (again or gpu) else contextlib.nullcontext()
        with torch.autocast(device.type, dtype), attention:
            return network(*args, **kwargs)

    return call


class _Float32Attention(TorchFunctionMode):
    """Attention in float32 under a CPU's autocast; not with activation checkpointing.

    The backward pass of the CPU's fused attention in bfloat16 took 48 ms where float32 took 5.4 (head dimension 16, on
    a processor with AMX), while its products and convolutions are several times faster in bfloat16.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))

        def widened(x: Any) -> Any:
            return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x

        with torch.autocast("cpu", enabled=False):
            out: Tensor = func(*map(widened, args), **{name: widened(x) for name, x in (kwargs or {}).items()})
        return out.to(next(x for x in (*args, *(kwargs or {}).values()) if isinstance(x, Tensor)).dtype)


def new_loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """A loss scale for fp16, whose small gradients would be lost; disabled, and so without effect, for the others."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
