"""The model card of a student."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sidlsg.runtime.formatting import plain_markdown
from sidlsg.storage.records import Licence, Scorecard, Student, SubjectScores


def student_card(student: Student, scorecard: Scorecard | None = None) -> str:
    """Markdown for the student's README.md.

    Args:
        student: the record of the distillation.
        scorecard: the scores, once they are known.
    """
    kappas = ", ".join(f"κ{i} = {kappa:g}" for i, kappa in enumerate(student.kappas, 1))
    recipe = student.recipe_values
    lines = [
        "---",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        "tags: [one-step, distillation, sid-lsg]",
        *licence_head(student.licence),
        "---",
        f"# One-step student {plain_markdown(student.recipe)}",
        "",
        "A one-step text-to-image generator, distilled from a pretrained Stable Diffusion by Score identity",
        "Distillation with Long-Short Guidance (SiD-LSG, arXiv 2406.01561), without any real image.",
        "",
        "```python",
        "from diffusers import StableDiffusionPipeline",
        "",
        'pipe = StableDiffusionPipeline.from_pretrained("path/to/this/folder")',
        'image = pipe("a prompt", num_inference_steps=1, guidance_scale=0).images[0]',
        "```",
        "",
        "One step only: with this scheduler the stock pipeline is exact for `num_inference_steps=1`. Guidance is part",
        "of the weights; do not guide again at inference.",
        "",
        "## How it was made",
        "",
        "| | |",
        "|---|---|",
        f"| teacher (SHA-256 of its model files) | `{student.teacher_sha256}` |",
        f"| prompt set (SHA-256 of its record) | `{student.prompts_sha256}` |",
        f"| code (SHA-256 of the package) | `{student.package_sha256}` |",
        *([f"| git commit | `{student.git_commit}` |"] if student.git_commit else []),
        *([f"| image | {plain_markdown(student.image)} |"] if student.image else []),
        f"| guidance | {student.strategy}: {kappas} |",
        f"| images seen | {student.images_seen:,} in {student.iterations:,} iterations of {recipe['batch']} |",
        f"| learning rates | generator {recipe['lr']:g}, fake score {recipe['fake_score_lr']:g} |",
        f"| learning rate schedule | {recipe['lr_schedule']} |",
        f"| α, t_init | {recipe['alpha']:g}, {student.t_init} |",
        f"| EMA half-life | {recipe['ema_half_life']:,.0f} images |",
        f"| seed | {student.seed} |",
        f"| samples left out for NaN | {student.nan_samples} |",
        f"| training time | {student.seconds:,.0f} s on {plain_markdown(student.hardware)} |",
        "",
        "## Scores",
        "",
    ]
    if scorecard is None:
        lines.append("Not evaluated yet. The registry holds the scores of registered versions.")
    else:
        lines += score_table(scorecard.subjects)
    lines += ["", "## Use", "", "The teacher's licence and use restrictions hold for this student as well.", ""]
    lines += licence_lines(student.licence)
    return "\n".join(lines) + "\n"


def licence_head(licence: Licence) -> list[str]:
    """The lines at the head of a model card that name a licence; none where it is not known."""
    named = [f"license: {json.dumps(licence.name)}"] if licence.name else []
    return named + ([f"license_link: {json.dumps(licence.link)}"] if licence.link else [])


def licence_lines(licence: Licence) -> list[str]:
    """What a model card says of a teacher's licence."""
    if licence.name:
        link = f" ({plain_markdown(licence.link)})" if licence.link else ""
        lines = [f"Licence: **{plain_markdown(licence.name)}**{link}, as the teacher's card says."]
    else:
        lines = ["**The teacher's card names no licence**: find out which one holds before you use the student."]
    if licence.files:
        names = ", ".join(plain_markdown(ref.path) for ref in licence.files)
        lines.append(f"The teacher's card, and the texts that came with it: {names}.")
    return lines


def score_table(subjects: Sequence[SubjectScores]) -> list[str]:
    """The scores as lines of a Markdown table: one row a subject, one column a score."""
    names = list(dict.fromkeys(score.name for subject in subjects for score in subject.scores))
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for subject in subjects:
        values = {score.name: f"{score.value:.4g}" for score in subject.scores}
        lines.append(f"| {subject.subject} | {' | '.join(values.get(name, '–') for name in names)} |")
    protocols = {score.name: score for subject in subjects for score in subject.scores}
    lines.append("")
    lines += [
        f"- `{name}`: protocol `{score.protocol}`, {score.n:,} images, "
        f"{'higher' if score.higher_is_better else 'lower'} is better, reference `{score.reference_digest[:16]}…`"
        for name, score in protocols.items()
    ]
    return lines
