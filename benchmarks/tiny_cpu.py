"""The tiny teacher on a CPU: this project's iteration against the stand-in for the released code's way.

    python benchmarks/tiny_cpu.py --output benchmarks/results/tiny_cpu.json

Both are given the same draws and checked for the same losses first. Then their iterations alternate, each way in a
process of its own, and what is reported are ratios: seconds of a shared or small machine say little. Every prompt is
new to ours as well, so that its encoding counts; it happens once instead of five times.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import pyarrow.parquet as pq
import torch
import transformers
from comparing import Way, alternate, ratio
from released_way import ReleasedWay
from torch import Tensor

from sidlsg.distil.guidance import lsg
from sidlsg.distil.losses import Method
from sidlsg.distil.recipes import Settings
from sidlsg.distil.sampler import DrawPlan
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import train_step
from sidlsg.runtime.hardware import set_threads
from sidlsg.teacher.embeddings import OnlineEmbeddings
from sidlsg.teacher.pipeline import Teacher, load_teacher
from sidlsg.teacher.text_encoder import PromptEncoder

ASSETS = Path(__file__).parents[1] / "assets"
KAPPA, LR, HALF_LIFE = 1.2, 5e-4, 1000.0
OURS = {
    "fp32": Settings(),
    "bf16": Settings(precision="bf16"),
    "fp32, compiled": Settings(compile=True),
    "bf16, compiled": Settings(precision="bf16", compile=True),
}
"""Ways of ours; only `fp32` computes the stand-in's losses to `TOLERANCE`, `compiled` but for rounding."""
STANDIN, WITHOUT_COLLECTOR = "stand-in", "stand-in without collector"
TOLERANCE = 1e-4
"""Largest relative difference between the losses of the two ways from the same draws."""


class Ours:
    """This project's way, as the `distil` stage puts it together, prompts encoded on the fly."""

    def __init__(self, teacher: Teacher, texts: Sequence[str], settings: Settings) -> None:
        """Args:
        teacher: stays as it is.
        texts: the prompt set.
        settings: how the machine is used.
        """
        self.state = TrainingState.start(teacher.network, LR, LR, settings=settings)
        frozen = self.state.frozen(copy.deepcopy(teacher.network))
        self.method = Method(teacher=self.state.call(frozen), schedule=teacher.schedule, guidance=lsg(KAPPA))
        # A memory of its own for each way.
        encoder = PromptEncoder(teacher.family, teacher.encode.pipeline, {})
        self.encode = OnlineEmbeddings(encoder, texts, "float32")

    def iterate(self, plan: DrawPlan, micro_batch: int) -> dict[str, Tensor]:
        """One iteration; the two losses."""
        result = train_step(self.state, self.method, plan, self.encode, micro_batch, HALF_LIFE, observe=False)
        return result.losses


def read_texts() -> list[str]:
    """The bundled prompts, each once."""
    rows = pq.read_table(ASSETS / "prompts" / "prompts.parquet", columns=["TEXT"]).column("TEXT").to_pylist()
    return list(dict.fromkeys(rows))


def plan_for(teacher: Teacher, texts: Sequence[str], batch: int) -> DrawPlan:
    """Seed 0's draws."""
    return DrawPlan(seed=0, batch=batch, prompt_count=len(texts), latent_shape=teacher.latent_shape, prompt_dropout=0.1)


def new_standin(teacher: Teacher, texts: Sequence[str], collect: bool = True) -> ReleasedWay:
    """The stand-in with a text encoder that remembers nothing."""
    tokenizer, text_encoder = teacher.encode.pipeline.tokenizer, teacher.encode.pipeline.text_encoder

    def encode(prompts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states: Tensor = text_encoder(tokens.input_ids).last_hidden_state
        return states

    return ReleasedWay(
        teacher.network,
        teacher.schedule.alphas_cumprod,
        encode,
        texts,
        kappa=KAPPA,
        lr=LR,
        half_life=HALF_LIFE,
        collect=collect,
    )


def check_same_losses(teacher: Teacher, texts: Sequence[str], batch: int, iterations: int = 3) -> float:
    """The largest relative difference of the two ways' losses; the learning rate moves them within these iterations.

    Raises:
        SystemExit: it is above `TOLERANCE`: then the two do not compute the same, and no ratio means anything.
    """
    plan = plan_for(teacher, texts, batch)
    ours, theirs = Ours(teacher, texts, Settings()), new_standin(teacher, texts)
    worst = 0.0
    for _ in range(iterations):
        # Another micro-batch for each: the losses do not depend on it.
        mine, other = ours.iterate(plan, batch), theirs.iterate(plan, max(1, batch // 2))
        worst = max([worst, *(abs(float(mine[name] / other[name]) - 1) for name in mine)])
    if not worst < TOLERANCE:
        raise SystemExit(f"the losses differ by {worst:.1e}, more than {TOLERANCE}: the two ways are not the same")
    return worst


def our_iteration(name: str, batch: int, micro_batch: int) -> Callable[[], object]:
    """One of `OURS`, as `Way` makes it."""
    set_threads()
    teacher, texts = load_teacher(ASSETS / "tiny-sd"), read_texts()
    way, plan = Ours(teacher, texts, OURS[name]), plan_for(teacher, texts, batch)
    return lambda: way.iterate(plan, micro_batch)


def standin_iteration(collect: bool, batch: int, micro_batch: int) -> Callable[[], object]:
    """The stand-in, as `Way` makes it."""
    set_threads()
    teacher, texts = load_teacher(ASSETS / "tiny-sd"), read_texts()
    way, plan = new_standin(teacher, texts, collect), plan_for(teacher, texts, batch)
    return lambda: way.iterate(plan, micro_batch)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each way of ours and each micro-batch, against the stand-in."""
    rows = []
    for micro_batch in options.micro_batch or [options.batch]:
        standin_micro_batch = options.standin_micro_batch or micro_batch
        with contextlib.ExitStack() as stack:
            ways = {
                STANDIN: stack.enter_context(Way(standin_iteration, True, options.batch, standin_micro_batch)),
                WITHOUT_COLLECTOR: stack.enter_context(
                    Way(standin_iteration, False, options.batch, standin_micro_batch)
                ),
            }
            for name in dict.fromkeys(["fp32", *options.also]):
                ways[name] = stack.enter_context(Way(our_iteration, name, options.batch, micro_batch))
            first = {name: way.run(1) for name, way in ways.items()}
            times = alternate(ways, options.blocks, options.iterations)
        standin, without = times.pop(STANDIN), times.pop(WITHOUT_COLLECTOR)
        for name, each in times.items():
            rows.append(
                {
                    "way": name,
                    "micro_batch": micro_batch,
                    "standin_micro_batch": standin_micro_batch,
                    "wall": ratio(each.wall, standin.wall),
                    "cpu": ratio(each.cpu, standin.cpu),
                    "cpu_without_collector": ratio(each.cpu, without.cpu),
                    # Compilation, above all.
                    "first_iteration_in_iterations": round(first[name][0] / statistics.median(each.wall), 1),
                }
            )
    return rows


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown: each ratio with the quartiles of the rounds."""
    lines = [
        "| way | micro-batch | the stand-in's | time | processor time | processor time, stand-in without collector |",
        "|---|---:|---:|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [f"ours, {row['way']}", str(row["micro_batch"]), str(row["standin_micro_batch"])]
        for kind in ("wall", "cpu", "cpu_without_collector"):
            found = row[kind]
            spread = f"{found['lower_quartile']:.2f} to {found['upper_quartile']:.2f}"
            cells.append(f"{found['of_medians']:.2f} ({spread})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, measure, print, and write where it was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="images an iteration")
    parser.add_argument("--micro-batch", type=int, action="append", help="default: the batch; may be given again")
    parser.add_argument("--standin-micro-batch", type=int, help="default: as ours; the released code's own is 1")
    parser.add_argument("--blocks", type=int, default=12, help="rounds of alternation")
    parser.add_argument("--iterations", type=int, default=1, help="in a block")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        choices=[name for name in OURS if name != "fp32"],
        help="another way of ours; may be given again",
    )
    parser.add_argument("--output", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    threads = set_threads()
    teacher, texts = load_teacher(ASSETS / "tiny-sd"), read_texts()
    difference = check_same_losses(teacher, texts, options.batch)
    result = {
        "benchmark": "tiny_cpu",
        "batch": options.batch,
        "blocks": options.blocks,
        "iterations_in_a_block": options.iterations,
        "largest_relative_difference_of_losses": float(f"{difference:.1e}"),
        "threads": threads,
        "load_at_start": round(os.getloadavg()[0], 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
        "rows": measure(options),
    }
    sys.stdout.write(f"batch {options.batch}, {threads} threads, losses equal to {difference:.1e}\n{table(result)}\n")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
