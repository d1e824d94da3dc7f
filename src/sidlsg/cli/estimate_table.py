"""Estimates on the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from sidlsg.distil.estimate.estimate import CHECKPOINTS, EMBEDDINGS, ENOUGH, IMAGES, LATENTS, Choice, Estimate
from sidlsg.runtime.progress import PlainConsole


def print_estimate(found: Estimate, teacher: str, price: float) -> None:
    """Print memory by part, what fits, duration and, at a GPU's hourly price, cost."""
    console = PlainConsole()
    many = f"{found.world_size} × " if found.world_size > 1 else ""
    console.print()
    console.print(f"Recipe {found.recipe.name}, teacher {teacher}, on {many}{found.gpu.name}", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(f"at the peak, micro-batch {found.micro_batch}")
    table.add_column("GB", justify="right")
    for part, size in found.parts.items():
        table.add_row(part, f"{size / 1e9:.2f}")
    table.add_row("together", f"{found.total / 1e9:.2f}", style="bold")
    table.add_row("the device has", f"{found.gpu.memory / 1e9:.2f}")
    console.print(table)
    console.print()
    others = Table(box=None, padding=(0, 2, 0, 0))
    others.add_column("besides")
    others.add_column("GB", justify="right")
    for part, size in _others(found).items():
        others.add_row(part, f"{size / 1e9:.2f}")
    console.print(others)
    console.print()
    for line in (*_fit(found), *_time(found, price), *_sampling(found)):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(
        "Computed with fake tensors, not measured on such a GPU; for the assumptions\n"
        "and the accuracy see docs/estimate.md",
        highlight=False,
        style="italic",
    )


def estimate_json(found: Estimate, price: float) -> dict[str, Any]:
    """The same as JSON values: bytes, seconds, images per second, and the cost in the price's currency."""
    return {
        "recipe": found.recipe.name,
        "gpu": found.gpu.name,
        "gpus": found.world_size,
        "sampling_passes": found.recipe.steps,
        "bytes": {**found.parts, "together": found.total, "device": found.gpu.memory},
        "host_bytes": found.host,
        "disk_bytes": found.disk,
        "fits": found.fits,
        "micro_batch": found.micro_batch,
        "largest_micro_batch": found.largest_micro_batch,
        "options_for_one_image": None if found.fits_one is None else found.flags(found.fits_one),
        "options_for_more": None if found.fits_enough is None else found.flags(found.fits_enough),
        "images_per_second": found.images_per_second,
        "gpu_hours": found.gpu_hours,
        "cost": None if found.gpu_hours is None or not price else found.gpu_hours * price,
    }


_DISK = {
    CHECKPOINTS: "disk for checkpoints, at most",
    EMBEDDINGS: "disk for a million prompts' text embeddings, if encoded before",
    LATENTS: "disk for a million real images' latents, without their captions",
    IMAGES: "disk for 1,000 images, if `evaluate` keeps them, at most",
}


def _others(found: Estimate) -> dict[str, int]:
    return {
        "host memory for offloaded tensors and checkpoints": found.host,
        **{text: found.disk[name] for name, text in _DISK.items() if name in found.disk},
    }


def _fit(found: Estimate) -> list[str]:
    largest = found.largest_micro_batch
    if found.fits:
        lines = [f"It fits; the largest micro-batch with these options is about {largest}."]
    elif largest:
        lines = [f"It does not fit; with these options a micro-batch of about {largest} does."]
    else:
        lines = ["It does not fit, not even one image at once."]
    if found.fits_one is None:
        return [*lines, f"No options make it fit; it takes {found.advice}."]
    lines.append(_choice(found, "Fastest options that fit one image at once", found.fits_one))
    if found.fits_enough is not None and found.fits_enough.settings != found.fits_one.settings:
        lines.append(_choice(found, f"Fastest options that fit {ENOUGH} or more", found.fits_enough))
    return lines


def _sampling(found: Estimate) -> list[str]:
    steps = found.recipe.steps
    return [f"Its student takes {steps} passes of the network to sample an image."] if steps > 1 else []


def _choice(found: Estimate, what: str, choice: Choice) -> str:
    return f"{what} (up to {choice.micro_batch}):\n  {found.flags(choice) or 'the recipe as it is'}"


def _time(found: Estimate, price: float) -> list[str]:
    work = f"{found.flops / 1e12:.3g} TFLOP an image"
    if found.seconds is None:
        return [f"{work}; how fast this device computes is not known: no time, no price."]
    if found.images_per_second is None or found.gpu_hours is None:
        return [f"{work}; no time, no price, as it does not fit."]
    images = found.recipe.iterations * found.recipe.batch
    options = f" with {found.flags(found.options)}" if found.options else ""
    lines = [
        f"{work}; at {found.mfu:.0%} of the peak (assumed){options}: {found.images_per_second:.3g} images/s,",
        f"{images / 1e6:.3g} million images in {found.gpu_hours:,.4g} GPU-hours"
        + (f", which cost {found.gpu_hours * price:,.2f}." if price else "."),
    ]
    if found.world_size > 1:
        lines.append(f"That is {found.gpu_hours / found.world_size:,.4g} hours on {found.world_size} GPUs.")
    return lines
