"""Adds to what `sd15_gpu.py` measured what `sidlsg estimate` says of the same rows; needs no GPU.

python benchmarks/estimated.py benchmarks/results/sd15_nvidia_h200.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from sidlsg.distil.estimate.devices import get_gpu
from sidlsg.distil.estimate.iteration import IterationNeeds, measure
from sidlsg.distil.estimate.memory import Network, Use
from sidlsg.distil.estimate.speed import MFU, iteration_seconds
from sidlsg.distil.recipes import Settings, get_recipe
from sidlsg.teacher.architectures import ARCHITECTURES

SHAPE = ARCHITECTURES["sd15"]
BESIDES = "context, workspaces"


@cache
def needs(settings: Settings, accumulated: bool) -> IterationNeeds:
    """Memory and FLOPs of an iteration, by the estimate."""
    recipe = replace(get_recipe("sd15"), micro_batch=8)
    return measure(SHAPE, recipe, settings, accumulated=accumulated, gpu=True, report=_say)


def estimated(row: dict[str, Any], batch: int, gpu: str) -> dict[str, Any]:
    """A row's memory and speed by the estimate, and how far off they are.

    `tensors_gb` is what the estimate says of tensors alone, `total_gb` all of it. The speed is that at the assumed
    share of the data sheet's peak; `reached` is the share that the measured speed is.
    """
    settings = Settings(precision=row["precision"], activation_checkpointing=row["checkpointing"])
    use = Use(network=Network.of(SHAPE), settings=settings)
    found = needs(settings, batch > row["micro_batch"])
    parts = use.at(found, row["micro_batch"])
    total = sum(parts.values()) / 1e9
    tensors = total - parts[BESIDES] / 1e9
    peak = get_gpu(gpu).peaks[row["precision"]]
    speed = batch / iteration_seconds(use, found.flops, batch, peak, MFU)
    return {
        "tensors_gb": round(tensors, 2),
        "total_gb": round(total, 2),
        "tensors_off": round(tensors / row["peak_memory_gb"] - 1, 4),
        "total_off": round(total / row["device_gb"] - 1, 4),
        "images_per_second": round(speed, 2),
        "reached": round(MFU * row["images_per_second"] / speed, 3),
        "parts_gb": {part: round(size / 1e9, 2) for part, size in parts.items()},
    }


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read, add, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="a JSON of sd15_gpu.py")
    parser.add_argument("--gpu", default="h200", help="a name of `sidlsg estimate`")
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    for row in result["rows"]:
        if row["way"] == "ours" and "failed" not in row:
            row["estimated"] = estimated(row, row.get("batch", result["batch"]), options.gpu)
            told = {name: value for name, value in row["estimated"].items() if name != "parts_gb"}
            _say(f"{row['precision']} {row['micro_batch']} {row['checkpointing']} {row['compile']}: {told}")
    options.result.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
