"""Networks without memory: they have shapes, dtypes and gradients, and compute nothing (PyTorch's fake tensors)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


class Imagination(FakeTensorMode):  # type: ignore[no-untyped-call]
    """While it is active, tensors have no memory; all that meet must be of the same one.

    They say that they are on the CPU even where they stand for a GPU's: PyTorch without CUDA cannot index others.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Imagination:
        return self  # copies of a network meet the network


class ImaginedUNet(UNet2DConditionModel):  # type: ignore[misc]
    """A UNet whose parameters are replaced when it changes device, dtype or layout.

    PyTorch would exchange what is inside the parameters, which fake tensors refuse.
    """

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> ImaginedUNet:  # noqa: ARG002 - PyTorch's signature
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    with torch.no_grad():
                        changed = fn(parameter)
                    module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
        return self


class _GpuGroupNorm(nn.GroupNorm):
    """Under autocast, norms compute in float32 on GPUs; on the CPU that fake tensors stand for, they do not."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


class _GpuLayerNorm(nn.LayerNorm):
    """As `_GpuGroupNorm`."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


_GPU_NORMS: dict[type[nn.Module], type[nn.Module]] = {nn.GroupNorm: _GpuGroupNorm, nn.LayerNorm: _GpuLayerNorm}


def meta_unet(config: Mapping[str, Any]) -> ImaginedUNet:
    """A UNet of this shape without memory, in evaluation mode.

    Args:
        config: of a `UNet2DConditionModel`, as in a teacher's `unet/config.json`.
    """
    values = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        unet: ImaginedUNet = ImaginedUNet.from_config(values).eval()
    return unet


def imagined_unet(config: Mapping[str, Any], gpu_norms: bool) -> ImaginedUNet:
    """A UNet of this shape for the active `Imagination`, in which it must be called.

    Args:
        config: of a `UNet2DConditionModel`.
        gpu_norms: whether norms give float32, whatever they get.
    """
    unet = meta_unet(config)
    if gpu_norms:
        for module in unet.modules():
            module.__class__ = _GPU_NORMS.get(type(module), type(module))
    unet._apply(lambda parameter: torch.empty(parameter.shape))
    return unet
