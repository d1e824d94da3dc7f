"""The page of figures, tables and verdicts, made from the scores alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from claims import CLAIMS, Scores
from plots import Seeds, interval, labelled, over_images, samples, trade_off
from studies import IMAGES, RECIPE, Training

from sidlsg.runtime.formatting import counted

COLUMNS = ("fid_judge", "precision_judge", "recall_judge", "attributes", "all_attributes")
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


def write_page(found: Mapping[str, Any], grids: Sequence[Path], output: Path) -> None:
    """Write evidence.md and its figures; `grids` are one student's by images seen."""
    teacher, studies, images = found["teacher"], found["studies"], output / "images" / "evidence"
    best = best_many_steps(teacher)
    lines = {best: teacher[best]}
    text = [
        "# Evidence",
        "",
        f"What the method claims, tried on the bundled {found['domain']}. Every figure and number here is made by",
        "",
        "<!-- not run: takes hours -->",
        "```bash",
        "make evidence",
        "```",
        "",
        *textwrap.wrap(
            f"{counted(found['trainings'], 'student', 'students')}, {found['hours']:.1f} hours of training in all, "
            f"each on {' or '.join(found['machines'])}, at commit "
            f"{' and '.join(f'`{digest[:10]}`' for digest in found['commits'])}. ± is half the width of a 95 % "
            f"interval over seeds (Student's t). Unless a study is about it, a student has the recipe `{RECIPE.name}` "
            f"with κ = {Training().scale:g} and {IMAGES:,} images; the recipe itself has "
            f"{RECIPE.iterations * RECIPE.batch:,}, so verdicts are about short trainings. The verdict on a claim is "
            "“cannot be told” if the interval of the paired differences over seeds contains 0. The intervals "
            "hold how trainings differ, not how the few thousand "
            f"images that are scored would; and of {sum(map(len, CLAIMS.values()))} verdicts at 95 %, one may well be "
            "chance.",
            118,
        ),
        "",
        "## The teacher",
        "",
        *_table({name: {"0": scores} for name, scores in teacher.items()}, counts=False),
        "",
        f"Its best 20 steps are those with the smallest distance: {best}. The strongest that it does in one step is",
        "its network at t_init, which is the student before its first update, not a step of the stock scheduler.",
    ]
    for name, study in studies.items():
        if not any(study.values()):
            continue
        file = images / f"{name.replace(' ', '-')}.svg"
        if name == "length":
            over_images(file, found["curves"], lines)
            samples(images / "samples.png", grids)
        else:
            labelled(file, study, lines)
        text += ["", f"## {QUESTIONS[name]}", "", f"![Scores of the study](images/evidence/{file.name})", ""]
        if name == "prompts":
            text += _on_prompts(found["prompts"])
        text += [*_table(study), "", *_verdicts(name, study)]
        if name == "length":
            text += [
                "",
                "The figure follows the longest training on its way. Its learning rate falls to 0 by a cosine over the",
                "whole length, so the shorter trainings of the table are not this one stopped early.",
                "",
                "![Samples during training: same prompts, same noise](images/evidence/samples.png)",
                "",
            ]
            text += _against_teacher(*list(study.items())[-1], teacher[best], best)
    kinds = {name: studies[name] for name in ("long", "short", "lsg") if any(studies.get(name, {}).values())}
    if kinds:
        trade_off(images / "trade-off.svg", kinds, {n: s for n, s in teacher.items() if n.startswith("20 step")})
        text += [
            "",
            "## Distance against alignment",
            "",
            "![Distance against alignment](images/evidence/trade-off.svg)",
        ]
    (output / "evidence.md").write_text("\n".join(text) + "\n")


def _table(study: Mapping[str, Seeds], counts: bool = True) -> list[str]:
    """Scores by label, with the number of seeds where `counts`."""
    titles = ["seeds"] * counts + [f"`{name}`" for name in COLUMNS]
    rows = [f"| | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    for label, seeds in study.items():
        if seeds:
            values = [str(interval(seeds, name)).removesuffix(" (one seed)") for name in COLUMNS]
            rows.append(f"| {' | '.join([label, *[f'{len(seeds)}'] * counts, *values])} |")
    return rows


def _on_prompts(counts: Mapping[str, int]) -> list[str]:
    """What a reader must know of prompt sets of these sizes, by label."""
    sizes = ", ".join(f"{count:,} ({label})" for label, count in counts.items())
    text = (
        f"The scores of the bundled prompts are random, and a higher cut leaves fewer: {sizes}. Near duplicates are "
        f"dropped after the cut, so a smaller set loses fewer to them. A training takes {2 * IMAGES:,} prompts, some "
        "of them again where there are fewer."
    )
    return [*textwrap.wrap(text, 118), ""]


def _verdicts(name: str, study: Mapping[str, Seeds]) -> list[str]:
    scores: Scores = {label: {int(seed): each for seed, each in seeds.items()} for label, seeds in study.items()}
    lines = []
    for claim in CLAIMS.get(name, ()):
        verdict, difference = claim.judged(scores)
        lines.append(f"- {claim.text}: **{verdict}** ({difference}).")
    return lines


def _against_teacher(label: str, seeds: Seeds, teacher: Mapping[str, float], name: str) -> list[str]:
    values = [each["fid_judge"] for each in seeds.values()]
    reached = sum(value <= teacher["fid_judge"] for value in values)
    ratios = ", ".join(f"{value / teacher['fid_judge']:.2f}" for value in values)
    return [
        f"- After {label} the student's distance is at most its teacher's ({name})",
        f"  on {reached} of {len(values)} seeds: it is {ratios} times as large.",
    ]
