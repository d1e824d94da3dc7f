"""The cards of a bundled teacher and judge."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.judge import load_judge
from sidlsg.bundled.measures import JudgeColumns, JudgeMeasure, accuracies
from sidlsg.bundled.protocols import real_images
from sidlsg.bundled.training import Log, TeachRecipe
from sidlsg.evaluate.teacher_scores import CFG, TeacherScores
from sidlsg.runtime.randomness import counted
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import SubjectScores
from sidlsg.teacher.families.family import Family
from sidlsg.teacher.families.sd import SD

_CHECK_SEED = 2_000_001
_CHECKED = 4096


def teacher_card(
    domain: Domain, family: Family, recipe: TeachRecipe, scores: TeacherScores, logs: dict[str, Log]
) -> str:
    """The text of a tiny teacher's README.md."""
    command = _command(domain) if family is SD else f"sidlsg teach --family {family.name}"
    held_out = domain.held_out_captions()
    goal, own = "noise prediction with Stable Diffusion's schedule", "DDIM with trailing spacing"
    if recipe.zero_terminal_snr:
        goal = "v-prediction with Stable Diffusion's schedule rescaled to end in noise alone"
    if family.flows:
        goal, own = "flow matching with a normal logit of σ", "Euler steps"
    training = (
        f"AdamW, warm-up, cosine decay, EMA; the {family.network.replace('unet', 'UNet')} and the text "
        f"encoders together on {goal}, the empty prompt in place of {recipe.prompt_dropout:.0%} of the prompts. "
    )
    training += "" if "vae" in logs else "The VAE is tiny-sd's. "
    training += "The whole log is `training_log.jsonl`; the weights are stored in half precision."
    lines = [
        "---",
        "library_name: diffusers",
        "license: apache-2.0",
        "pipeline_tag: text-to-image",
        "---",
        f"# A small {family.title} that draws captioned {domain.name}",
        "",
        *textwrap.wrap(
            f"A true `{family.pipeline}` at {domain.image_size}×{domain.image_size} pixels for captions such as "
            f'"{held_out[0].text}": {len(domain.all_captions()):,} captions, of which training had '
            f"{len(domain.training_captions()):,} and {len(held_out):,} serve for evaluation. It exists so that sidlsg "
            "has a real teacher to distil on a laptop. No real image and no downloaded weight is in it: every training "
            f"image was drawn by `sidlsg.bundled.{domain.name}.drawing`.",
            110,
        ),
        "",
        f"Made by `{command}`, seed {recipe.seed}. SHA-256 of its model files: `{scores.teacher_sha256}`.",
        "",
        "## Scores",
        "",
        f"2,016 images of the {len(held_out):,} evaluation captions, seed i for image i, stock diffusers, {own};",
        f"with CFG the guidance scale is {CFG:g}. Real images are a second drawn set: the real-image baseline.",
        "",
        *_score_table(scores.subjects),
        "",
        "## Training",
        "",
        "| network | iterations | batch | peak learning rate | first logged loss | last logged loss |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, log in logs.items():
        schedule = getattr(recipe, name)
        lines.append(
            f"| {name} | {schedule.iterations:,} | {schedule.batch} | {schedule.lr:g} | "
            f"{log[0]['loss']:.4f} | {log[-1]['loss']:.4f} |"
        )
    lines += [
        "",
        *textwrap.wrap(training, 110),
        "",
        "## Limits",
        "",
        "It knows the words of the domain and nothing else, and has no safety checker: there is nothing unsafe that it",
        "could draw.",
    ]
    return "\n".join(lines) + "\n"


def _command(domain: Domain) -> str:
    return "sidlsg teach" if domain is SHAPES else f"sidlsg teach --domain {domain.name}"


def _score_table(subjects: Sequence[SubjectScores]) -> list[str]:
    """The scores as lines of a Markdown table: one row a subject, one column a score."""
    protocols = {score.name: score for subject in subjects for score in subject.scores}
    lines = [f"| | {' | '.join(protocols)} |", f"|---|{'---:|' * len(protocols)}"]
    for subject in subjects:
        values = {score.name: f"{score.value:.4g}" for score in subject.scores}
        lines.append(f"| {subject.subject} | {' | '.join(values.get(name, '–') for name in protocols)} |")
    lines.append("")
    lines += [
        f"- `{name}`: protocol `{score.protocol}`, {score.n:,} images, "
        f"{'higher' if score.higher_is_better else 'lower'} is better, reference `{score.reference_digest[:16]}…`"
        for name, score in protocols.items()
    ]
    return lines


@torch.no_grad()
def judge_card(domain: Domain, recipe: TeachRecipe, log: Log, weights: Path) -> str:
    """The text of judge/README.md, with the judge's accuracy on newly drawn images."""
    every = domain.all_captions()
    captions = [every[i] for i in counted(_CHECK_SEED, "judge/check").integers(len(every), size=_CHECKED)]
    judged = JudgeMeasure(load_judge(weights, domain), sha256_file(weights))
    values = judged(real_images(domain, captions, _CHECK_SEED), [caption.text for caption in captions])
    found = accuracies(JudgeColumns(values, domain).right, domain)
    lines = [
        "---",
        "license: apache-2.0",
        "---",
        f"# The judge of the {domain.name} domain",
        "",
        *textwrap.wrap(
            f"A small convolutional network that reads the attributes below from {domain.image_size}×"
            f"{domain.image_size} pixels. Its accuracy on generated images is text alignment; its 64 penultimate "
            "features give a Fréchet distance. It was trained on drawn images of its own, of all captions, half of "
            "them blurred and noised as a decoder may do.",
            110,
        ),
        "",
        f"Made by `{_command(domain)}`, seed {recipe.seed}: {recipe.judge.iterations:,} iterations of",
        f"{recipe.judge.batch}, peak learning rate {recipe.judge.lr:g}, last logged loss {log[-1]['loss']:.4f}.",
        f"SHA-256 of the file: `{sha256_file(weights)}`.",
        "",
        f"On {_CHECKED:,} newly drawn images of random captions:",
        "",
        "| attribute | accuracy |",
        "|---|---:|",
        *[f"| {name} | {found[name]:.4f} |" for name in domain.attributes],
        f"| mean | {found['attributes']:.4f} |",
        f"| all right | {found['all_attributes']:.4f} |",
    ]
    return "\n".join(lines) + "\n"
