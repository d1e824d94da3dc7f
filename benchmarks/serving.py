"""The served model against plain diffusers on the same student: one warm request, and many prompts at once.

    python benchmarks/serving.py --student runs/demo/student --output benchmarks/results/serving.json

Both give PNG bytes. Their calls alternate in one process, so that a shared machine's moods hit both; what is reported
are ratios of processor time, and their quartiles.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import torch
from diffusers import StableDiffusionPipeline

from sidlsg.registry.package import save_model
from sidlsg.runtime.hardware import device_name, set_threads
from sidlsg.storage.records import Student

MANY = 16
"""Prompts of the large request."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    set_threads()
    with tempfile.TemporaryDirectory() as scratch:
        save_model(Student.load(given.student), given.student, Path(scratch) / "model")
        exact = mlflow.pyfunc.load_model(str(Path(scratch) / "model"))
        batched = mlflow.pyfunc.load_model(str(Path(scratch) / "model"), model_config={"batch": MANY})
    pipeline: Any = StableDiffusionPipeline.from_pretrained(given.student, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline.to(device)
    prompts = [f"a small red circle on a blue background, {number}" for number in range(MANY)]

    def plain(texts: list[str]) -> None:
        for picture in pipeline(texts, num_inference_steps=1, guidance_scale=0).images:
            picture.save(io.BytesIO(), format="PNG")

    found = {
        "device": device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "one prompt": compared(lambda: exact.predict(prompts[:1]), lambda: plain(prompts[:1]), given.rounds),
        f"{MANY} prompts, batch 1": compared(lambda: exact.predict(prompts), lambda: plain(prompts), given.rounds),
        f"{MANY} prompts, batch {MANY}": compared(
            lambda: batched.predict(prompts), lambda: plain(prompts), given.rounds
        ),
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    print(given.output.read_text(), end="")


def compared(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> dict[str, float]:
    """Processor time of ours by that of theirs: the ratio of the medians, and the quartiles of the rounds' own."""
    ours(), theirs()  # warm
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    low, _, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    ratio = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    return {"ratio": round(ratio, 3), "low": round(low, 3), "high": round(high, 3)}


def timed(call: Callable[[], object]) -> float:
    """Seconds of processor time on a CPU, where others share it; of the clock on a GPU."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    call()
    return clock() - began


if __name__ == "__main__":
    main()
