"""Before training: whether the run fits the device at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sidlsg.distil.estimate.bound import upper_bound
from sidlsg.distil.estimate.devices import Gpu, gpu_at_hand
from sidlsg.distil.estimate.estimate import Estimate, estimate
from sidlsg.distil.estimate.host import host_memory
from sidlsg.distil.estimate.memory import Network, Use
from sidlsg.distil.recipes import Recipe
from sidlsg.runtime.errors import InputError


def check_fits(
    unet_config: Mapping[str, Any],
    recipe: Recipe,
    world_size: int,
    device: torch.device,
    text_encoder_parameters: int,
    report: Callable[[str], None],
) -> None:
    """Say in one line what a run needs, and refuse one that cannot fit.

    Small networks are let through by an upper bound, which takes a fraction of a second; others are imagined, which
    takes up to half a minute.

    Args:
        unet_config: of the teacher's UNet.
        recipe: what is to run.
        world_size: processes that train together.
        device: this process's.
        text_encoder_parameters: of the text encoder where it encodes during training, else 0.
        report: receives the line.

    Raises:
        InputError: the run cannot fit; the message names the options with which it would.
    """
    on_host = device.type != "cuda"
    at_hand = _host() if on_host else _free(device)
    if at_hand is None:
        return  # the system does not say how much memory it has
    share = max(1, recipe.batch // world_size)
    use = Use(
        network=Network.of(unet_config),
        settings=recipe.settings,
        world_size=world_size,
        text_encoder=text_encoder_parameters,
        gpu=not on_host,
    )
    bound = upper_bound(unet_config, use, min(share, recipe.micro_batch))
    if bound <= at_hand.memory:
        report(f"memory: at most {_gb(bound)} of the {_gb(at_hand.memory)} GB that are free on {at_hand.name}")
        return
    found = estimate(
        unet_config,
        recipe,
        at_hand,
        world_size=world_size,
        text_encoder=text_encoder_parameters,
        on_host=on_host,
        advise=False,
        report=report,
    )
    if not found.fits:
        lack = (
            f"recipe {recipe.name!r} at micro_batch {found.micro_batch} needs about {_gb(found.total)} GB on "
            f"{at_hand.name}, where {_gb(at_hand.memory)} GB are free; what would fit: {found.advice}"
        )
        if recipe.memory_check == "refuse":
            raise InputError(f"{lack}; or --set memory_check=warn to try all the same")
        report(lack)
        return
    report(_line(found))


def _line(found: Estimate) -> str:
    line = f"memory: about {_gb(found.total)} of the {_gb(found.gpu.memory)} GB that are free on {found.gpu.name}"
    if found.images_per_second is not None:
        line += f"; {found.images_per_second:.3g} images/s if {found.mfu:.0%} of its peak are reached (assumed)"
    return line


def _host() -> Gpu | None:
    memory = host_memory()
    return None if memory is None else Gpu(name="this machine", memory=memory, peaks={})


def _free(device: torch.device) -> Gpu:
    """The device with what this process may take of it; what others hold is gone."""
    gpu = gpu_at_hand(device)
    free, _ = torch.cuda.mem_get_info(device)
    return Gpu(name=gpu.name, memory=free + torch.cuda.memory_reserved(device), peaks=gpu.peaks)


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g}"
