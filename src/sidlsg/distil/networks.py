"""How the networks of a run are laid out: memory format, precision, compiled blocks, and spread over processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from sidlsg.distil.lora import trained_parameters
from sidlsg.distil.recipes import Settings
from sidlsg.runtime.distributed import World
from sidlsg.teacher.families import family_of

FORMS = 128
"""The most forms in which a kind of block may be compiled; the compiler would silently leave more uncompiled.

Stable Diffusion's residual blocks come in 14 shapes, each trained, without gradient, or with its inputs' gradient
alone, on a micro-batch or on both guidance halves of it, and the teacher's in another precision besides.
"""


def prepared(network: Any, settings: Settings, device: torch.device, compiled: bool, trained: bool) -> Any:
    """Prepare a network to run, in place: on its device, channels last, with the settings' blocks."""
    network.to(device).requires_grad_(False)
    for parameter in trained_parameters(network).values():
        parameter.requires_grad_(trained)
    network.to(memory_format=torch.channels_last)
    if settings.activation_checkpointing:
        # Frozen networks too: gradient flows through them to their inputs, so their activations are kept as well.
        network.enable_gradient_checkpointing()
    else:
        network.disable_gradient_checkpointing()
    if compiled:
        compile_blocks(network)
    return network


def compile_blocks(network: nn.Module, backend: str = "inductor") -> int:
    """Compile each of the network's repeated blocks in place, at its first call; returns how many there are.

    The backend compiles what was traced; `eager` runs it as it is.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, FORMS)
    kinds = family_of(network).compiled
    blocks = [module for module in network.modules() if type(module).__name__ in kinds]
    for block in blocks:
        # Otherwise the compiler takes the second shape that it meets for one of many, and makes slower code for all.
        block.compile(backend=backend, dynamic=False)
    return len(blocks)


def compiles(device: torch.device, report: Callable[[str], None]) -> bool:
    """Whether this machine can compile a block of a network, forward and backward; reports why not."""
    block = ResnetBlock2D(in_channels=8, temb_channels=8, groups=4).to(device)
    x = torch.randn(2, 8, 8, 8, device=device, requires_grad=True)
    try:
        with torch.enable_grad():
            compiled: Any = torch.compile(block)
            out = compiled(x, torch.randn(2, 8, device=device))
            torch.autograd.backward(out.sum())
    except Exception as error:  # compilers fail in every way there is
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        report(f"blocks are not compiled, and training continues without: {type(error).__name__}: {reason[:200]}")
        return False
    finally:
        torch.compiler.reset()
    return True


COMPUTE: dict[str, torch.dtype | None] = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Dtype of a network's matrix products under autocast; None without autocast."""


def set_matmul_precision(precision: str) -> None:
    """Allow TF32 in float32 products for `tf32` alone: the library's own defaults differ by operation."""
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def autocasting(network: nn.Module, precision: str, device: torch.device, *, gpu: bool = False) -> Callable[..., Any]:
    """The network as a callable whose products run in a precision of `COMPUTE`; its weights stay as they are.

    Only the call is covered: what is done with its output is float32 again. With `gpu`, a CPU stands for a GPU.
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


class Parallel:
    """Spreads networks over a world; under DDP, gradients wait for the last micro-batch of an update."""

    def __init__(self, world: World, mode: str, reduced: torch.dtype | None = None) -> None:
        """`mode` is `ddp` or `fsdp`; FSDP gathers weights in the `reduced` precision, or in their own."""
        self.world = world
        self.mode = mode if world.size > 1 else "alone"
        self._policy = MixedPrecisionPolicy(
            param_dtype=reduced, reduce_dtype=torch.float32 if reduced else None, cast_forward_inputs=False
        )
        self._mesh = init_device_mesh(world.device.type, (world.size,)) if self.mode == "fsdp" else None
        self._wrapped: dict[nn.Module, DistributedDataParallel] = {}

    def spread(self, network: Any) -> Any:
        """Shard a network under FSDP, block by block, so that only one block is whole at a time."""
        if self.mode == "fsdp":
            network.to(memory_format=torch.contiguous_format)  # it shards no other layout
            for block in family_of(network).sharded(network):
                fully_shard(block, mesh=self._mesh, mp_policy=self._policy)
            # Otherwise the root's own weights would stay whole after a pass without gradients, as the EMA's are.
            fully_shard(network, mesh=self._mesh, mp_policy=self._policy, reshard_after_forward=True)
            # The library settles at the first pass in what type gradients travel, and takes none for weights that are
            # frozen then, as the generator's are in the first fake score's update. So it is settled now.
            network._get_fsdp_state()._lazy_init()
        return network

    def trainee(self, network: nn.Module) -> nn.Module:
        """What to call so that a network's gradients are summed over the processes."""
        if self.mode != "ddp":
            return network
        if network not in self._wrapped:
            on_gpu = self.world.device.type == "cuda"
            self._wrapped[network] = DistributedDataParallel(
                network,
                device_ids=[self.world.device] if on_gpu else None,
                gradient_as_bucket_view=True,  # one copy of the gradients, not two
            )
        return self._wrapped[network]

    @contextlib.contextmanager
    def accumulating(self, network: nn.Module, last: bool) -> Iterator[None]:
        """A forward and backward pass whose gradients travel only if it is the update's last one.

        Under FSDP they always travel: else each process would keep them whole, four bytes a parameter, between the
        micro-batches.
        """
        if self.mode == "ddp" and not last:
            with self._wrapped[network].no_sync():
                yield
        else:
            yield


def local(x: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other tensor as it is."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """A sharded tensor put together at every process; any other tensor as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x
