"""Networks of PyTorch's fake tensors, which have shapes, dtypes and gradients, but neither memory nor values."""

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

from sidlsg.distil.lora import trained_parameters
from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import TEACHER, resolve
from sidlsg.teacher.architectures import ARCHITECTURES, architecture_of
from sidlsg.teacher.config import TEXT_ENCODER, UNET, read_config, unet_config
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.pipeline import as_input_error


class FakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Makes tensors without memory while it is active. Only tensors of the same mode can be combined.

    They are on the CPU even where they stand for a GPU's: PyTorch without CUDA cannot index others.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeMode:
        return self  # copies of a network meet the network


class FakeUNet(UNet2DConditionModel):  # type: ignore[misc]
    """A UNet whose parameters are replaced when it changes device, dtype or layout.

    PyTorch would swap the data of the parameters, which fake tensors refuse.
    """

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> FakeUNet:  # noqa: ARG002 - PyTorch's signature
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    with torch.no_grad():
                        changed = fn(parameter)
                    module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
        return self


def _gpu_norm(kind: type[Any]) -> type[Any]:
    """A norm that computes in float32 under autocast, as on GPUs; on a CPU, where fake tensors are, it does not."""

    class GpuNorm(kind):  # type: ignore[misc]
        def forward(self, input: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                output: Tensor = super().forward(input.float())
            return output

    return GpuNorm


_GPU_NORMS = {kind: _gpu_norm(kind) for kind in (nn.GroupNorm, nn.LayerNorm)}


def meta_unet(config: Mapping[str, Any]) -> FakeUNet:
    """A UNet of this configuration without memory, in evaluation mode."""
    with torch.device("meta"):
        unet: FakeUNet = FakeUNet.from_config({k: v for k, v in config.items() if not k.startswith("_")}).eval()
    return unet


def parameter_count(network: nn.Module) -> int:
    """The number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def fake_unet(config: Mapping[str, Any], gpu_norms: bool) -> FakeUNet:
    """A UNet of this configuration for the active `FakeMode`, in which it must be called.

    Args:
        config: of a `UNet2DConditionModel`.
        gpu_norms: whether norms return float32, whatever their input is.
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
    # The CPU's attention has no formula, and does the same number of operations.
    _ATEN._scaled_dot_product_flash_attention_for_cpu: flop_registry[_ATEN._scaled_dot_product_flash_attention],
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _ATEN._scaled_dot_product_flash_attention_backward
    ],
}


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of operations while it is active, and follows every storage that one makes until it is freed.

    Storages that existed before are not counted, except gradients by `add_gradients`. Works on fake, meta and real
    tensors; the memory that kernels use internally is not counted.
    """

    def __init__(self, network: nn.Module, weights: Iterable[nn.Module] = ()) -> None:
        """Track a network's gradients, and copies of some networks' weights, apart from activations."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = dict.fromkeys((GRADIENTS, WEIGHT_COPIES, ACTIVATIONS), 0)
        """Bytes by part."""
        self.peak = dict(self.live)
        """`live` when its sum was largest."""
        self.total = 0
        """Bytes of all storages, freed ones included."""
        self.flops = 0
        """FLOPs of matrix products and convolutions; a multiply-add is 2."""
        self._known: dict[int, tuple[weakref.ref[Any], str, int]] = {}
        self._weights = {p.untyped_storage()._cdata for each in weights for p in each.parameters()}
        self._network = network
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._is_gradient)  # type: ignore[no-untyped-call]
            for p in trained_parameters(network).values()
        ]

    def __exit__(self, *error: Any) -> None:
        """Remove the hooks from the network."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def add_gradients(self) -> None:
        """Give every parameter a gradient, as after an earlier micro-batch."""
        for parameter in trained_parameters(self._network).values():
            parameter.grad = torch.zeros_like(parameter)
            self._follow(parameter.grad, GRADIENTS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # what FakeTensorMode returns, which is asked for it more than for all else
        if func is _ATEN._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 0  # read by the host: no sample was masked, and no stop was requested
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

        def freed(_: Any) -> None:
            _, part, size = self._known.pop(key)
            self.live[part] -= size

        size = storage.nbytes()
        self._known[key] = (weakref.ref(storage, freed), part, size)
        self.total += size
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


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A teacher's architecture, as far as an estimate depends on it."""

    name: str
    unet: Mapping[str, Any]
    """Configuration of its `UNet2DConditionModel`."""
    text_encoder: int
    """Number of parameters."""


def shape_of(teacher: str, recipe: str) -> Shape:
    """The shape of a teacher, by default of the architecture that a recipe is named after.

    Args:
        teacher: path or URI of a `StableDiffusionPipeline`'s folder; empty for the default.
        recipe: a recipe's name.

    Raises:
        InputError: the folder or architecture does not exist, or its configuration cannot be read.
    """
    if not teacher and not recipe.startswith("tiny"):
        architecture = architecture_of(recipe)
        return Shape(name=architecture.name, unet=architecture.unet, text_encoder=architecture.text_encoder_parameters)
    uri = teacher or TEACHER
    folder = resolve(uri, folder=DIFFUSERS)
    if not folder.is_dir():
        raise InputError(
            f"{uri} is a file, which does not describe its networks; give a folder with unet/config.json, "
            f"or no teacher and a recipe of {', '.join(ARCHITECTURES)}"
        )
    unet, encoder = unet_config(folder), read_config(folder, TEXT_ENCODER)
    with as_input_error(folder / UNET):
        meta_unet(unet)
    with as_input_error(folder / TEXT_ENCODER), torch.device("meta"):
        text_model = CLIPTextModel(CLIPTextConfig(**encoder))
    return Shape(name=uri, unet=unet, text_encoder=parameter_count(text_model))
