"""The memory of a run by part: persistent tensors, and a micro-batch at its peak."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sidlsg.distil.adapter import Adapter
from sidlsg.distil.estimate.fake_networks import (
    ACTIVATIONS,
    GRADIENTS,
    WEIGHT_COPIES,
    StorageTracker,
    meta_network,
    parameter_count,
)
from sidlsg.distil.estimate.iteration import IterationNeeds
from sidlsg.distil.lora import adapted, trained_parameters
from sidlsg.distil.networks import COMPUTE
from sidlsg.distil.recipes import Settings
from sidlsg.teacher.architectures import Architecture
from sidlsg.teacher.conditioning import of_shapes

FLOAT32 = 4
OPTIMIZER_BYTES = {"adam": 4.0, "adam8bit": 2 * (1 + 4 / 256)}
"""Per parameter: one second moment in float32; or both moments in a byte each, and a scale for every 256."""
CACHED_EMBEDDINGS = 2**28
"""Bytes of text embeddings that a prompt encoder caches."""
CONTEXT = 10**9
"""Assumed bytes of CUDA, its kernels and the libraries' workspaces."""
FRAGMENTATION = 0.05
"""Assumed share by which the allocator holds more than the tensors of a pass."""
FORWARDS = 5
"""Forward passes a sample in a generator update: one of the generator, and two guided networks twice each."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network's number of parameters."""

    parameters: int
    block: int
    """Parameters of its largest block, which FSDP gathers at once."""
    trained: int
    """Parameters that training changes: all, or an adapter's."""

    @classmethod
    def of(cls, shape: Architecture, adapter: Adapter | None = None) -> Network:
        """The counts of an architecture's network, and an adapter if one is trained."""
        network = meta_network(shape.config, shape.family)
        trained = network if adapter is None else adapted(network, adapter, 0, 0)
        return cls(
            parameters=parameter_count(network),
            block=max(map(parameter_count, shape.family.sharded(network))),
            trained=sum(each.numel() for each in trained_parameters(trained).values()),
        )


@dataclass(frozen=True, kw_only=True)
class Use:
    """How a run uses one device."""

    network: Network
    settings: Settings
    world_size: int = 1
    text_encoder: int = 0
    """Parameters of a text encoder on the device; 0 where prompts were encoded before."""
    gpu: bool = True
    """False for the CPU, where offloading moves nothing."""

    def persistent(self) -> dict[str, int]:
        """Bytes by part of tensors that exist throughout the run."""
        settings, n = self.settings, self.network.parameters
        share = self.world_size if settings.parallel == "fsdp" else 1
        whole = FLOAT32 * n // share
        own = FLOAT32 * self.network.trained // share
        half = COMPUTE[settings.precision] is not None
        parts = {
            "teacher": whole // 2 if half else whole,
            "generator": own,
            "fake score": own,
            "EMA": 0 if settings.ema_offload and self.gpu else own,
            "optimizer states": round(2 * OPTIMIZER_BYTES[settings.optimizer] * self.network.trained / share),
        }
        if settings.optimizer_offload and self.gpu:
            parts["optimizer states"] = 0
        if self.text_encoder:
            parts["text encoder and embeddings"] = FLOAT32 * self.text_encoder + CACHED_EMBEDDINGS
        return parts

    @property
    def state(self) -> int:
        """Bytes of a training's state, which a checkpoint holds whole."""
        return round((3 * FLOAT32 + 2 * OPTIMIZER_BYTES[self.settings.optimizer]) * self.network.trained)

    @property
    def host(self) -> int:
        """Bytes in the host's memory, of all processes: what is offloaded, and the copy that becomes a checkpoint."""
        settings = self.settings
        moments = 2 * OPTIMIZER_BYTES[settings.optimizer] if settings.optimizer_offload else 0
        offloaded = round((moments + (FLOAT32 if settings.ema_offload else 0)) * self.network.trained)
        return (self.state + offloaded) * (1 if settings.parallel == "fsdp" else self.world_size)

    def at(self, needs: IterationNeeds, micro_batch: int) -> dict[str, int]:
        """Bytes by part at the peak of a micro-batch."""
        peak = needs.peak(micro_batch)
        if self.world_size > 1 and self.settings.parallel == "ddp":
            peak[GRADIENTS] = 2 * FLOAT32 * self.network.trained  # both networks', always, in its buckets
        if self.world_size > 1 and self.settings.parallel == "fsdp":
            peak[GRADIENTS] = FLOAT32 * self.network.trained // self.world_size
            peak[WEIGHT_COPIES] = 0  # weights are gathered in the run's precision, and freed again
            each = 2 if COMPUTE[self.settings.precision] is not None else FLOAT32
            # One block at work, the next one being gathered, and one block's gradients.
            peak["gathered blocks"] = (2 * each + FLOAT32) * self.network.block
        parts = self.persistent() | peak
        if self.gpu:
            parts["context, workspaces"] = CONTEXT + round(FRAGMENTATION * (peak[ACTIVATIONS] + peak[WEIGHT_COPIES]))
        return {part: size for part, size in parts.items() if size}

    def largest_micro_batch(self, needs: IterationNeeds, available: int, most: int) -> int:
        """How many samples fit in so many bytes, at most `most`; 0 if not even one does."""
        one, two = (sum(self.at(needs, micro_batch).values()) for micro_batch in (1, 2))
        if one > available:
            return 0
        return min(most, 1 + (available - one) // (two - one)) if two > one else most


def upper_bound(shape: Architecture, use: Use, micro_batch: int) -> int:
    """Bytes that a run cannot exceed: those of a forward pass that frees nothing, and as many for the backward pass."""
    adapter, network = use.settings.lora, meta_network(shape.config, shape.family)
    network = network if adapter is None else adapted(network, adapter, 0, 0)
    latents = torch.empty(1, *shape.family.latent_shape(shape.config), device="meta")
    t = torch.empty(1, dtype=torch.float32 if shape.family.flows else torch.long, device="meta")
    tracker = StorageTracker(network)
    with torch.no_grad(), tracker:
        shape.family.takes(network)(latents, t, of_shapes(shape.conditioning, 1, "meta"))
    gradients = 2 * FLOAT32 * use.network.trained
    return sum(use.persistent().values()) + gradients + 2 * FORWARDS * micro_batch * tracker.total
