"""How the networks are spread over processes: DDP keeps a copy each, FSDP2 (`fully_shard`) a part each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sidlsg.runtime.distributed import World


class Parallel:
    """Spreads networks over a world, and holds gradients back until the last micro-batch of an update."""

    def __init__(self, world: World, mode: str, reduced: torch.dtype | None = None) -> None:
        """Args:
        world: the processes.
        mode: `ddp` or `fsdp`; one process alone needs neither.
        reduced: the precision in which FSDP gathers weights; None for their own.
        """
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
            for block in (*network.down_blocks, network.mid_block, *network.up_blocks):
                fully_shard(block, mesh=self._mesh, mp_policy=self._policy)
            # Else what is left in the root would stay whole after a pass without gradients, as the EMA's are.
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
                gradient_as_bucket_view=True,  # else gradients would be there twice
            )
        return self._wrapped[network]

    @contextlib.contextmanager
    def accumulating(self, network: nn.Module, last: bool) -> Iterator[None]:
        """A forward and backward pass whose gradients travel only if it is the update's last one."""
        if isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(last)
            yield
        elif self.mode == "ddp" and not last:
            with self._wrapped[network].no_sync():
                yield
        else:
            yield

    @property
    def loss_factor(self) -> float:
        """DDP and FSDP average gradients; a loss that is divided by the global batch already must be summed."""
        return float(self.world.size)


def local(x: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other tensor as it is."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """A sharded tensor put together at every process; any other tensor as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x
