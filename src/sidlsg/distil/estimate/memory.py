"""Adds up the memory of a run by part: what is there all the time, and what a micro-batch needs at its peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sidlsg.distil.estimate.fake_networks import ACTIVATIONS, GRADIENTS, WEIGHT_COPIES, meta_unet
from sidlsg.distil.estimate.iteration import IterationNeeds
from sidlsg.distil.networks import COMPUTE
from sidlsg.distil.recipes import Settings
from sidlsg.teacher.architectures import TEXT_LENGTH

FLOAT32 = 4
OPTIMIZER_BYTES = {"adam": 4.0, "adam8bit": 2 * (1 + 4 / 256)}
"""Per parameter: one second moment in float32; or both moments in a byte each, and a scale for every 256."""
KEPT_STATES = 2**28
"""What a prompt encoder keeps of prompts' states."""
CONTEXT = 10**9
"""Assumed: what CUDA, its kernels and the libraries' workspaces take besides tensors."""
FRAGMENTATION = 0.05
"""Assumed: how much more than the tensors' bytes the allocator holds for a pass."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A UNet's size."""

    parameters: int
    block: int
    """Parameters of its largest block: what FSDP puts together at once."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Network:
        """The size of a UNet by its configuration."""
        unet = meta_unet(config)
        blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
        return cls(
            parameters=sum(p.numel() for p in unet.parameters()),
            block=max(sum(p.numel() for p in block.parameters()) for block in blocks if block is not None),
        )


@dataclass(frozen=True, kw_only=True)
class Use:
    """How a run uses one device."""

    network: Network
    settings: Settings
    world_size: int = 1
    text_encoder: int = 0
    """Parameters of a text encoder that stays on the device; 0 where prompts were encoded before."""
    gpu: bool = True
    """False for the CPU, which is the host that things are moved to."""

    def standing(self) -> dict[str, int]:
        """Bytes by part of what is there all the time."""
        settings, n = self.settings, self.network.parameters
        share = self.world_size if settings.parallel == "fsdp" else 1
        whole = FLOAT32 * n // share
        half = COMPUTE[settings.precision] is not None
        parts = {
            "teacher": whole // 2 if half else whole,
            "generator": whole,
            "fake score": whole,
            "EMA": 0 if settings.ema_offload and self.gpu else whole,
            "optimizer states": round(2 * OPTIMIZER_BYTES[settings.optimizer] * n / share),
        }
        if settings.optimizer_offload and self.gpu:
            parts["optimizer states"] = 0
        if self.text_encoder:
            parts["text encoder and states"] = FLOAT32 * self.text_encoder + KEPT_STATES
        return parts

    def at(self, passes: IterationNeeds, micro_batch: int) -> dict[str, int]:
        """Bytes by part at the peak of a micro-batch."""
        peak = passes.peak(micro_batch)
        if self.world_size > 1 and self.settings.parallel == "ddp":
            peak[GRADIENTS] = 2 * FLOAT32 * self.network.parameters  # both networks', always, in its buckets
        if self.world_size > 1 and self.settings.parallel == "fsdp":
            # Whole until the last micro-batch: they are not summed and parted before.
            peak[GRADIENTS] = FLOAT32 * self.network.parameters
            peak[WEIGHT_COPIES] = 0  # weights come together in the run's precision, and go again
            each = 2 if COMPUTE[self.settings.precision] is not None else FLOAT32
            # One block at work, the next one on its way, and one block's gradients.
            peak["blocks put together"] = (2 * each + FLOAT32) * self.network.block
        parts = self.standing() | {part: peak[part] for part in (GRADIENTS, WEIGHT_COPIES)}
        parts |= {part: size for part, size in peak.items() if part not in parts}
        if self.gpu:
            parts["context, workspaces"] = CONTEXT + round(FRAGMENTATION * (peak[ACTIVATIONS] + peak[WEIGHT_COPIES]))
        return {part: size for part, size in parts.items() if size}

    def largest_micro_batch(self, passes: IterationNeeds, available: int, most: int) -> int:
        """How many samples fit, at most `most`; 0 if not even one does."""

        def need(micro_batch: int) -> int:
            return sum(self.at(passes, micro_batch).values())

        if need(1) > available:
            return 0
        slope = need(2) - need(1)
        fit = 1 + (available - need(1)) // slope if slope > 0 else most
        return min(most, fit)


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
