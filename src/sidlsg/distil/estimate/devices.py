"""GPUs by name, with their memory and peak FLOP/s."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sidlsg.runtime.errors import InputError, nearest

GIB = 2**30
DEFAULT = "h100"
"""The GPU of an estimate where none is named and this machine has none."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A device."""

    name: str
    memory: int
    """Bytes."""
    peaks: dict[str, float]
    """Dense FLOP/s by precision; empty where they are unknown."""


def _gpu(name: str, gib: float, half: float, tf32: float, fp32: float) -> Gpu:
    """A row of the table: GiB as PyTorch reports them, TFLOP/s as data sheets give them without sparsity."""
    peaks = {"bf16": half, "fp16": half, "tf32": tf32, "fp32": fp32}
    return Gpu(name=name, memory=round(gib * GIB), peaks={key: peak * 1e12 for key, peak in peaks.items()})


# Peaks: NVIDIA's data sheets, with accumulation in float32. Memory: the nominal size less the driver's and error
# correction's share, rounded down.
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("h200", 139.7, 989.0, 494.0, 67.0),
        _gpu("h100", 79.1, 989.0, 494.0, 67.0),
        _gpu("a100", 79.1, 312.0, 156.0, 19.5),
        _gpu("a100-40", 39.3, 312.0, 156.0, 19.5),
        _gpu("l40s", 44.3, 362.0, 183.0, 91.6),
        _gpu("4090", 23.5, 165.2, 82.6, 82.6),  # the Ada architecture's white paper
        _gpu("a10g", 22.0, 70.0, 35.0, 31.5),
        _gpu("l4", 22.0, 121.0, 60.0, 30.3),
    )
}
"""Every GPU that `--gpu` knows."""
_SXM_ONLY = {"h100", "h200"}
_SLOWER_FORMS = {"pcie", "nvl"}


def get_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in GPUS:
        raise InputError(
            f"GPU {name!r} is unknown{nearest(name, GPUS)}; allowed: {', '.join(GPUS)}, or give --memory-gb"
        )
    return GPUS[name]


def chosen_gpu(name: str = "", memory_gb: float = 0.0) -> Gpu:
    """The GPU of that name, by default this machine's, else `DEFAULT`; with another size of memory if one is given.

    Raises:
        InputError: the name is unknown.
    """
    if not name and torch.cuda.is_available():
        gpu = local_gpu(torch.device("cuda", torch.cuda.current_device()))
    else:
        gpu = get_gpu(name or DEFAULT)
    if memory_gb:
        return replace(gpu, name=f"{gpu.name} with {memory_gb:g} GB", memory=round(memory_gb * 1e9))
    return gpu


def local_gpu(device: torch.device) -> Gpu:
    """A CUDA device of this machine, with the peaks of the table's GPU whose name its own contains."""
    properties = torch.cuda.get_device_properties(device)
    words = properties.name.lower().replace("-", " ").split()
    known = next((gpu for name, gpu in GPUS.items() if name.split("-")[0] in words), None)
    if known is not None and known.name in _SXM_ONLY and not _SLOWER_FORMS.isdisjoint(words):
        known = None
    return Gpu(name=properties.name, memory=properties.total_memory, peaks=known.peaks if known else {})
