"""The teacher's scores: at several numbers of steps and guidance scales, and its network alone at t_init."""

from __future__ import annotations

import json

from students import SCORES, Workshop
from studies import RECIPE

from sidlsg.bundled.domains import domain_named
from sidlsg.bundled.protocols import BASELINE_SEED, IMAGES, REAL, load_domain_protocols, real_images
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.student.folder import student_scheduler
from sidlsg.evaluate.scoring import EvaluationWork, score_subject
from sidlsg.prompts.held_out import read_held_out
from sidlsg.storage.store import FolderStore
from sidlsg.storage.uri import resolve
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting

SETTINGS = {1: (1.0, 2.0), 4: (1.0, 2.0), 20: (1.0, 1.5, 2.0, 3.0, 5.0), 50: (1.0, 2.0)}
"""Guidance scales of CFG by number of steps; 1 is without."""
AT_T_INIT = "network at t_init"
"""The student before its first update: the strongest that the teacher does in one step."""


def setting_name(steps: int, scale: float) -> str:
    """As in a table."""
    return f"{steps} step{'s' * (steps > 1)}" + (f", CFG {scale:g}" if scale > 1 else "")


def teacher_scores(workshop: Workshop, images: int = IMAGES) -> dict[str, dict[str, float]]:
    """Scores by setting, and of real images; each is computed once. Fewer `images` are for trying the command."""
    file = workshop.work / "teacher.json"
    found: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    settings = {
        setting_name(steps, scale): Setting(steps=steps, guidance_scale=scale)
        for steps, scales in SETTINGS.items()
        for scale in scales
    }
    if images < IMAGES:
        settings = {name: settings[name] for name in ("1 step", "20 steps", "20 steps, CFG 3")}
    if not {REAL, AT_T_INIT, *settings} - found.keys():
        return found
    domain = domain_named(workshop.domain)
    judge, held_out = (resolve(workshop.inputs[name]) for name in ("--judge", "--held-out"))
    protocols = load_domain_protocols(domain, read_held_out(held_out), judge, images)
    work = EvaluationWork(parts=FolderStore(str(workshop.work / "teacher-parts")))

    def keep(name: str, scores: object) -> None:
        found[name] = {each.name: each.value for each in scores if each.name in SCORES}  # type: ignore[attr-defined]
        file.write_text(json.dumps(found, indent=1) + "\n")

    sampler = StockSampler(resolve(workshop.inputs["--teacher"], folder=DIFFUSERS))
    for name, setting in settings.items():
        if name not in found:
            keep(name, score_subject(name, sampler, setting, [protocols], work)[0].scores)
    first = FewSteps(t_init=RECIPE.t_init, count=1, noise="fresh")
    sampler.pipeline.scheduler = student_scheduler(sampler.pipeline.scheduler, first)
    sampler.identity += " at t_init"
    alone = Setting(steps=1, guidance_scale=0.0)
    keep(AT_T_INIT, score_subject(AT_T_INIT, sampler, alone, [protocols], work)[0].scores)
    keep(REAL, protocols.score(real_images(domain, protocols.captions, BASELINE_SEED)))
    return found
