"""Networks without memory: they have shapes, dtypes and gradients, and compute nothing (PyTorch's fake tensors)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import CLIPTextConfig, CLIPTextModel

from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import TEACHER, resolve
from sidlsg.teacher.architectures import ARCHITECTURES, architecture_of
from sidlsg.teacher.config import TEXT_ENCODER, UNET, read_config, unet_config
from sidlsg.teacher.folder import DIFFUSERS
from sidlsg.teacher.pipeline import as_input_error


class FakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """While it is active, tensors have no memory; all that meet must be of the same one.

    They say that they are on the CPU even where they stand for a GPU's: PyTorch without CUDA cannot index others.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeMode:
        return self  # copies of a network meet the network


class FakeUNet(UNet2DConditionModel):  # type: ignore[misc]
    """A UNet whose parameters are replaced when it changes device, dtype or layout.

    PyTorch would exchange what is inside the parameters, which fake tensors refuse.
    """

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> FakeUNet:  # noqa: ARG002 - PyTorch's signature
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


def fake_unet(config: Mapping[str, Any], gpu_norms: bool) -> FakeUNet:
    """A UNet of this shape for the active `FakeMode`, in which it must be called.

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


ACTIVATIONS = "activations"
GRADIENTS = "gradients"
WEIGHT_COPIES = "weight copies"
"""Weights in autocast's precision, kept for the backward pass."""
_ATEN = torch.ops.aten
_FLOPS = {
    **flop_registry,
    # The CPU's attention has no formula of its own, and does the same work.
    _ATEN._scaled_dot_product_flash_attention_for_cpu: flop_registry[_ATEN._scaled_dot_product_flash_attention],
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _ATEN._scaled_dot_product_flash_attention_backward
    ],
}


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation while it is active, and follows every storage that one makes until it is freed.

    Storages that were there before are not counted, except gradients that `expect_gradients` names. Works on tensors
    without memory as on real ones; what kernels need inside them is not seen.
    """

    def __init__(self, network: nn.Module) -> None:
        """Args:
        network: the one that is trained, whose gradients and weight copies have names of their own.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = dict.fromkeys((ACTIVATIONS, GRADIENTS, WEIGHT_COPIES), 0)
        self.peak = dict(self.live)
        """`live` at the moment when its sum was largest."""
        self.flops = 0
        """Of products and convolutions; a multiply-add is 2."""
        self._known: dict[int, tuple[weakref.ref[Any], str, int]] = {}
        self._weights: set[int] = set()
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._is_gradient)  # type: ignore[no-untyped-call]
            for p in network.parameters()
        ]

    def weights_of(self, networks: Iterable[nn.Module]) -> None:
        """Name the networks whose weights may be copied."""
        for network in networks:
            self._weights |= {p.untyped_storage()._cdata for p in network.parameters()}

    def close(self) -> None:
        """Take the hooks off the network."""
        for hook in self._hooks:
            hook.remove()

    def expect_gradients(self, network: nn.Module) -> None:
        """Give every parameter a gradient, as an earlier micro-batch leaves it."""
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
            self._follow(parameter.grad, GRADIENTS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        kwargs = kwargs or {}
        if func is _ATEN._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 0  # what the host reads: no sample was left out, nobody asked to stop
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in _FLOPS:
            self.flops += _FLOPS[packet](*args, **kwargs, out_val=out)
        part = ACTIVATIONS
        if func is _ATEN._to_copy.default and args[0].untyped_storage()._cdata in self._weights:
            part = WEIGHT_COPIES
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf, part)
        return out

    def _follow(self, tensor: Tensor, part: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or key in self._weights:
            return
        self._known[key] = (weakref.ref(storage, self._freed(key)), part, storage.nbytes())
        self._add(part, storage.nbytes())

    def _freed(self, key: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            _, part, size = self._known.pop(key)
            self.live[part] -= size

        return forget

    def _add(self, part: str, size: int) -> None:
        self.live[part] += size
        if sum(self.live.values()) > sum(self.peak.values()):
            self.peak = dict(self.live)

    def _is_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is None:
            return
        key = parameter.grad.untyped_storage()._cdata
        reference, part, size = self._known.get(key, (None, GRADIENTS, 0))
        if reference is not None and part != GRADIENTS:
            self._known[key] = (reference, GRADIENTS, size)
            self.live[part] -= size
            self.live[GRADIENTS] += size


def meta_unet(config: Mapping[str, Any]) -> FakeUNet:
    """A UNet of this shape without memory, in evaluation mode.

    Args:
        config: of a `UNet2DConditionModel`, as in a teacher's `unet/config.json`.
    """
    values = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        unet: FakeUNet = FakeUNet.from_config(values).eval()
    return unet


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
    folder = resolve(place, folder=DIFFUSERS)
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
