"""Networks of PyTorch's fake tensors, which have shapes, dtypes and gradients, but neither memory nor values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sidlsg.distil.lora import trained_parameters
from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import TEACHER, resolve
from sidlsg.teacher.architectures import ARCHITECTURES, Architecture, architecture_of
from sidlsg.teacher.config import INDEX, Config, family_in, read_configs
from sidlsg.teacher.families.family import Family, pixels_of_latent
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.pipeline import as_input_error, network_class


class FakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Makes tensors without memory while it is active. Only tensors of the same mode can be combined.

    They are on the CPU even where they stand for a GPU's: PyTorch without CUDA cannot index others.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeMode:
        return self  # copies of a network meet the network


class _Replaced:
    """Replaces a network's parameters when it changes device, dtype or layout.

    PyTorch would swap the data of the parameters, which fake tensors refuse.
    """

    def _apply(self: Any, fn: Callable[[Any], Any], recurse: bool = True) -> Any:  # noqa: ARG002 - PyTorch's signature
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    with torch.no_grad():
                        changed = fn(parameter)
                    module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = fn(buffer)
        return self


@cache
def _fake(kind: type[Any]) -> type[Any]:
    return type(f"Fake{kind.__name__}", (_Replaced, kind), {})


def _gpu_norm(kind: type[Any]) -> type[Any]:
    """A norm that computes in float32 under autocast, as on GPUs; on a CPU, where fake tensors are, it does not."""

    class GpuNorm(kind):  # type: ignore[misc]
        def forward(self, input: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                output: Tensor = super().forward(input.float())
            return output

    return GpuNorm


_GPU_NORMS = {kind: _gpu_norm(kind) for kind in (nn.GroupNorm, nn.LayerNorm)}


def meta_network(config: Mapping[str, Any], family: Family) -> Any:
    """A family's network of this configuration without memory, in evaluation mode."""
    kind = _fake(network_class(family))
    with torch.device("meta"):
        return kind.from_config({k: v for k, v in config.items() if not k.startswith("_")}).eval()


def parameter_count(network: nn.Module) -> int:
    """The number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def fake_network(shape: Architecture, gpu_norms: bool) -> Any:
    """A network of this architecture for the active `FakeMode`, in which it must be called.

    Args:
        shape: of the network.
        gpu_norms: whether norms return float32, whatever their input is.
    """
    network = meta_network(shape.config, shape.family)
    if gpu_norms:
        for module in network.modules():
            module.__class__ = _GPU_NORMS.get(type(module), type(module))
    network._apply(lambda parameter: torch.empty(parameter.shape, dtype=parameter.dtype))
    return network


ACTIVATIONS = "activations"
GRADIENTS = "gradients"
WEIGHT_COPIES = "weight copies"
"""Weights in autocast's precision, kept for the backward pass."""
_ATEN = torch.ops.aten


def _backward_of_convolution(*args: Any, **kwargs: Any) -> int:
    """The FLOPs of a convolution's gradients; the library takes that of grouped weights for one of dense weights."""
    *given, groups, (to_input, to_weights, _) = args
    count = flop_registry[_ATEN.convolution_backward]
    parts = [count(*given, groups, mask, **kwargs) for mask in ((to_input, False, False), (False, to_weights, False))]
    return int(parts[0] + parts[1] // groups)


_FLOPS = {
    **flop_registry,
    _ATEN.convolution_backward: _backward_of_convolution,
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


def shape_of(teacher: str, recipe: str) -> Architecture:
    """The architecture of a teacher, by default that which a recipe is named after.

    Args:
        teacher: path or URI of a pipeline's folder, of which the configurations are enough; empty for the default.
        recipe: a recipe's name.

    Raises:
        InputError: the folder or architecture does not exist, or its configuration cannot be read.
    """
    if not teacher and not recipe.startswith("tiny"):
        return architecture_of(recipe)
    uri = teacher or TEACHER
    folder = resolve(uri, folder=DIFFUSERS)
    if not folder.is_dir():
        raise InputError(
            f"{uri} is a file, which does not describe its networks; give a folder with {INDEX} and its parts' "
            f"configurations, or no teacher and a recipe of {', '.join(ARCHITECTURES)}"
        )
    return shape_in(folder, uri)


def shape_in(folder: Path, name: str) -> Architecture:
    """The architecture of a pipeline's folder, which `name` names; raises as `shape_of`."""
    family, configs = family_in(folder), read_configs(folder)
    with as_input_error(configs[family.network].path):
        meta_network(configs[family.network], family)
    return Architecture(
        name=name,
        family=family,
        config=configs[family.network],
        conditioning=family.shapes(configs),
        pixels=pixels_of_latent(configs["vae"]),
        text_encoder_parameters=sum(
            _parameters_of(family.components[name].classes[0], configs[name])
            for name in family.text_encoders
            if name in configs
        ),
    )


def _parameters_of(kind: str, config: Config) -> int:
    """The number of a text encoder's parameters."""
    made = getattr(transformers, kind)
    with as_input_error(config.path), torch.device("meta"):
        return parameter_count(made(made.config_class(**config)))
