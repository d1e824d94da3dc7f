"""The page of figures, tables and verdicts, made from the scores alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from claims import CLAIMS, Scores
from plots import Seeds, interval, labelled, over_images, samples, trade_off
from results import Results
from studies import IMAGES, RECIPE, SETUP, Training

from sidlsg.runtime.formatting import counted
from sidlsg.storage.files import atomic_write

COLUMNS = ("fid_judge", "fid_efficientnet", "precision_judge", "recall_judge", "attributes", "all_attributes")
QUESTIONS = {
    "length": "How does quality grow with the images seen?",
    "long": "What does long guidance do alone?",
    "short": "What does short guidance do alone?",
    "lsg": "What does κ do in long-short guidance?",
    "batch": "Does the batch size matter, at equal images?",
    "learning rate": "Does the learning rate matter?",
    "prompts": "How many prompts are needed?",
    "adapters": "What do adapters (LoRA) lose?",
    "steps": "What do more steps bring?",
    "real images": "What do real images bring to a student that trains on?",
}
"""Headings by study."""


def best_many_steps(teacher: Mapping[str, Mapping[str, float]], steps: int = 20) -> str:
    """The setting of so many steps with the smallest distance."""
    return min((name for name in teacher if name.startswith(f"{steps} step")), key=lambda n: teacher[n]["fid_judge"])


def write_page(
    results: Results, studies: Mapping[str, Mapping[str, Training]], grids: Sequence[Path], output: Path
) -> None:
    """Write evidence.md and its figures; without `grids`, one student's by images seen, their picture stays."""
    teacher, images = results.teacher, output / "images" / "evidence"
    scores = {name: found for name, study in studies.items() if any((found := results.scores(study)).values())}
    rows = {
        f"{t.name} {seed}": row for study in studies.values() for t in study.values() for seed, row in results.rows(t)
    }
    hours = sum(row["seconds"] for row in rows.values()) / 3600
    machines = {row["hardware"] for row in rows.values()}
    commits = {re.sub(r"^(\w{10})\w*", r"\1", row["git_commit"]) for row in rows.values()}
    best = best_many_steps(teacher)
    lines = {best: teacher[best]}
    text = [
        "# Evidence",
        "",
        f"What the method claims, tried on the bundled {results.inputs['domain']}. This makes every figure and number:",
        "",
        "<!-- not run: takes hours -->",
        "```bash",
        "make evidence",
        "```",
        "",
        *_wrapped(
            f"{counted(len(rows), 'student', 'students')}, {hours:.1f} hours of training in all, each on "
            f"{' or '.join(sorted(machines))}, at commit {' and '.join(f'`{each}`' for each in sorted(commits))}. "
            "± is half the width of a 95 % interval over seeds (Student's t); rows without it have one seed. Unless "
            f"a study is about it, a student has the recipe `{RECIPE.name}` with κ = {Training().scale:g} and "
            f"{IMAGES:,} images; the recipe itself has {RECIPE.iterations * RECIPE.batch:,}, so verdicts are about "
            "short trainings. The verdict on a claim is “cannot be told” if the interval of the paired differences "
            "over seeds contains 0. Intervals hold how trainings differ, not how the few thousand images that are "
            "scored would. One in twenty of such intervals misses by chance, and verdicts share students, so a single "
            "one proves little. A verdict on a distance is given by the judge's features and, as a check, by those of "
            "another network (`fid_efficientnet`)."
        ),
        "",
        "## The teacher",
        "",
        *_table({name: {"0": each} for name, each in teacher.items()}, counts=False),
        "",
        *_wrapped(
            f"Its best 20 steps are those with the smallest distance: {best}. Its network at t_init is the student "
            "before its first update, not a step of the stock scheduler."
        ),
    ]
    for name, study in scores.items():
        file = images / f"{name.replace(' ', '-')}.svg"
        longest = list(studies[name].values())[-1]
        curves = {seed: row["curve"] for seed, row in results.rows(longest) if row["curve"]}
        if curves:
            over_images(file, curves, lines)
        else:
            labelled(file, study, lines)
        text += ["", f"## {QUESTIONS[name]}", "", f"![Scores of the study](images/evidence/{file.name})", ""]
        if name in SETUP:
            text += [*_wrapped(SETUP[name]), ""]
        if name == "prompts":
            text += _on_prompts({label: row for label, t in studies[name].items() for _, row in results.rows(t)})
        text += [*_table(study), "", *_verdicts(name, study)]
        if curves:
            if grids:
                samples(images / "samples.png", grids)
            text += [
                "",
                "The figure follows the longest training on its way. Its learning rate falls to 0 by a cosine over the",
                "whole length, so the shorter trainings of the table are not this one stopped early.",
                "",
                "![Samples during training: same prompts, same noise](images/evidence/samples.png)",
                "",
                *_against_teacher(*list(study.items())[-1], teacher[best], best),
            ]
    kinds = {name: study for name, study in scores.items() if name in ("long", "short", "lsg")}
    if kinds:
        trade_off(images / "trade-off.svg", kinds, {n: s for n, s in teacher.items() if n.startswith("20 step")})
        text += [
            "",
            "## Distance against alignment",
            "",
            "![Distance against alignment](images/evidence/trade-off.svg)",
            "",
            "Means over seeds; the tables above have their intervals.",
        ]
    atomic_write(output / "evidence.md", "\n".join(text) + "\n")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118, break_on_hyphens=False)


def _table(study: Mapping[str, Seeds], counts: bool = True) -> list[str]:
    """Scores by label, with the number of seeds where `counts`."""
    titles = ["seeds"] * counts + [f"`{name}`" for name in COLUMNS]
    rows = [f"| | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    for label, seeds in study.items():
        if seeds:
            values = [str(interval(seeds, name)).removesuffix(" (one seed)") for name in COLUMNS]
            rows.append(f"| {' | '.join([label, *[f'{len(seeds)}'] * counts, *values])} |")
    return rows


def _on_prompts(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a reader must know of prompt sets of these sizes, by label."""
    sizes = ", ".join(f"{row['prompts']:,} ({label})" for label, row in rows.items())
    text = (
        f"The scores of the bundled prompts are random, and a higher cut leaves fewer: {sizes}. Near duplicates are "
        f"dropped after the cut, so a smaller set loses fewer to them. A training takes {2 * IMAGES:,} prompts, some "
        "of them again where there are fewer."
    )
    return [*_wrapped(text), ""]


def _verdicts(name: str, study: Mapping[str, Seeds]) -> list[str]:
    scores: Scores = {label: {int(seed): each for seed, each in seeds.items()} for label, seeds in study.items()}
    lines = []
    for claim in CLAIMS.get(name, ()):
        verdict, difference = claim.judged(scores)
        told = f"**{verdict}** ({difference}"
        if claim.score == "fid_judge":
            told += "; {} by {}".format(*replace(claim, score="fid_efficientnet").judged(scores))
        source = f" (claim of {claim.source})" if claim.source else ""
        lines.append(f"- {claim.text}{source}: {told}).")
    return lines


def _against_teacher(label: str, seeds: Seeds, teacher: Mapping[str, float], name: str) -> list[str]:
    values = [each["fid_judge"] for each in seeds.values()]
    reached = sum(value <= teacher["fid_judge"] for value in values)
    ratios = ", ".join(f"{value / teacher['fid_judge']:.2f}" for value in values)
    return [
        f"- After {label} the student's distance is at most its teacher's ({name})",
        f"  on {reached} of {len(values)} seeds: it is {ratios} times as large.",
    ]
