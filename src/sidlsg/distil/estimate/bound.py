"""An upper bound of a run's memory in a fraction of a second, for networks that are small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sidlsg.distil.estimate.fake_networks import meta_unet
from sidlsg.distil.estimate.memory import FLOAT32, Use
from sidlsg.teacher.architectures import TEXT_LENGTH

FORWARDS = 5
"""Samples that an update of one passes through networks: the generator's one, and two guided halves each."""


class _Sum(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what all operations make, as if nothing were ever freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation; a view of something is counted with it."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._made[storage._cdata] = storage
        return out

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(int(storage.nbytes()) for storage in self._made.values())


def upper_bound(config: Mapping[str, Any], use: Use, micro_batch: int) -> int:
    """Bytes that a run cannot exceed: nothing freed on the way forward, and as much again on the way back.

    Args:
        config: of the teacher's UNet.
        use: settings and processes.
        micro_batch: samples at once.
    """
    unet = meta_unet(config).requires_grad_(False)
    size = config["sample_size"]
    with _Sum() as total:
        unet(
            torch.empty(1, config["in_channels"], size, size, device="meta"),
            torch.empty(1, dtype=torch.long, device="meta"),
            torch.empty(1, TEXT_LENGTH, config["cross_attention_dim"], device="meta"),
        )
    gradients = 2 * FLOAT32 * use.network.parameters
    return int(sum(use.standing().values()) + gradients + 2 * FORWARDS * micro_batch * total.bytes)
