"""Variants of the method on the bundled teacher, several seeds each, at equal images.

    python benchmarks/variants.py --work runs/variants --output benchmarks/results/variants.json

Each student is distilled and scored by `sidlsg distil` and `sidlsg evaluate`, one after the other. The same command
continues: scores in the file of `--output` and what is finished in the folder of `--work` are kept. `--variant` and
`--seed` choose some.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEEDS = range(5)
SCORES = ("fid_judge", "precision_judge", "recall_judge", "attributes", "all_attributes")
T_975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Quantile of Student's t for an interval of 95 % over so many seeds."""
COMMON = ("precision=bf16", "evaluate_every=0", "grids=1", "processes=1", "threads=1")
"""Recipe values of all; bf16 is the faster on a processor with AMX."""


@dataclass(frozen=True)
class Variant:
    """A recipe with changes."""

    recipe: str
    changes: tuple[str, ...] = ()
    follows: str = ""
    """The variant whose student of the same seed the generator starts from."""
    real_images: bool = False


VARIANTS = {
    "one step": Variant("tiny"),
    "four steps": Variant("tiny_4step"),
    "LoRA, rank 16": Variant("tiny_lora"),
    "continued": Variant("tiny_real", ("adversarial={}",), follows="one step"),
    "continued with real images": Variant("tiny_real", follows="one step", real_images=True),
}


def sidlsg(*arguments: str | Path) -> None:
    """Run a command of this project in one thread; its output goes where ours goes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "sidlsg", *map(str, arguments)], env=environment, check=True)


def prepare(work: Path) -> None:
    """The prompt set, and the real images: 4,096 drawings."""
    if not (work / "prompts" / "prompt_set.json").exists():
        sidlsg("curate", "--output", work / "prompts")
    if not (work / "real" / "real_image_set.json").exists():
        sidlsg("images", "draw", "--output", work / "shapes.tar")
        sidlsg("images", "encode", work / "shapes.tar", "--output", work / "real", "--licence", "CC0-1.0")


def folder_of(work: Path, name: str, seed: int) -> Path:
    """Where a variant's training, student and scores of a seed are."""
    return work / name.replace(" ", "-").replace(",", "") / f"{seed}"


def scorecard(work: Path, name: str, seed: int, iterations: int) -> dict[str, Any]:
    """The scorecard of a variant's student, made if it is missing."""
    variant, folder = VARIANTS[name], folder_of(work, name, seed)
    card = folder / "scores" / "scorecard.json"
    if not card.exists():
        given = (*COMMON, f"iterations={iterations}", *variant.changes)
        changes = [part for change in given for part in ("--set", change)]
        if variant.follows:
            scorecard(work, variant.follows, seed, iterations)
            changes += ["--generator-from", str(folder_of(work, variant.follows, seed) / "student")]
        if variant.real_images:
            changes += ["--real-images", str(work / "real")]
        sidlsg(
            "distil", "--recipe", variant.recipe, *changes, "--seed", f"{seed}", "--prompts", work / "prompts",
            "--checkpoints", folder / "state", "--output", folder / "student",
        )  # fmt: skip
        sidlsg("evaluate", "--student", folder / "student", "--output", folder / "scores")
    found: dict[str, Any] = json.loads(card.read_text())
    return found


def scores_of(card: Mapping[str, Any], subject: str) -> dict[str, float]:
    """The values in `SCORES` of the teacher's setting, or of the student however many steps it takes."""
    (scores,) = (
        each["scores"]
        for each in card["subjects"]
        if each["subject"] == subject or (subject == "student" and each["subject"].startswith("student "))
    )
    return {score["name"]: score["value"] for score in scores if score["name"] in SCORES}


def mean_text(values: Sequence[float]) -> str:
    """Mean, and its interval of 95 % over the seeds."""
    mean = statistics.mean(values)
    if len(values) not in T_975:
        return f"{mean:.4g}"
    half = T_975[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.4g} ± {half:.2g}"


def main() -> None:
    """Distil and score what is asked for and missing; write all scores, and print their means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of students and scorecards")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of all scores so far")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="by default all")
    parser.add_argument("--seed", type=int, action="append", help="by default 0 to 4")
    parser.add_argument("--iterations", type=int, default=260, help="of each training, at 64 images; 260 by default")
    asked = parser.parse_args()
    found = (
        json.loads(asked.output.read_text())
        if asked.output.exists()
        else {"iterations": asked.iterations, "students": {}}
    )
    if found["iterations"] != asked.iterations:
        parser.error(f"{asked.output} has trainings of {found['iterations']} iterations; give another file and folder")
    asked.work.mkdir(parents=True, exist_ok=True)
    prepare(asked.work)
    for seed in asked.seed or SEEDS:
        for name in asked.variant or VARIANTS:
            scores = found["students"].setdefault(name, {})
            if f"{seed}" in scores:
                continue
            card = scorecard(asked.work, name, seed, asked.iterations)
            scores[f"{seed}"] = scores_of(card, "student")
            found["teacher, 20 steps"] = scores_of(card, "teacher 20 steps")
            asked.output.write_text(json.dumps(found, indent=2) + "\n")
    rows: list[tuple[str, Sequence[str]]] = [("", SCORES)]
    for name, seeds in found["students"].items():
        rows.append((name, [mean_text([each[score] for each in seeds.values()]) for score in SCORES]))
    rows.append(("teacher, 20 steps", [f"{found['teacher, 20 steps'][score]:.4g}" for score in SCORES]))
    sys.stdout.writelines(f"| {' | '.join([name, *values])} |\n" for name, values in rows)


if __name__ == "__main__":
    main()
