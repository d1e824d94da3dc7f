"""The teacher's scores: at several numbers of steps and guidance scales, and its network alone at t_init."""

from __future__ import annotations

from collections.abc import Sequence

from results import Results
from students import SCORES, Workshop
from studies import RECIPE

from sidlsg.bundled.domains import domain_named
from sidlsg.bundled.protocols import BASELINE_SEED, IMAGES, REAL, load_domain_protocols, real_images
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.student.folder import student_scheduler
from sidlsg.evaluate.scoring import EvaluationWork, score_subject
from sidlsg.evaluate.teacher_scores import TEACHER_SETTINGS, read_teacher_scores
from sidlsg.prompts.held_out import read_held_out
from sidlsg.runtime.hardware import set_threads
from sidlsg.storage.records import Score
from sidlsg.storage.store import FolderStore
from sidlsg.storage.uri import resolve
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting

MORE_SCALES = (1.5, 2.0, 5.0)
"""Guidance scales of 20 steps, beside those of `TEACHER_SETTINGS`."""
AT_T_INIT = "network at t_init"
"""The student before its first update: the strongest that the teacher does in one step."""


def setting_name(steps: int, scale: float) -> str:
    """As in a table."""
    return f"{steps} step{'s' * (steps > 1)}" + (f", CFG {scale:g}" if scale > 1 else "")


def score_teacher(workshop: Workshop, results: Results, images: int = IMAGES) -> None:
    """Add the teacher's missing scores, and those of real images. Fewer `images` are for trying the command."""
    every = [*TEACHER_SETTINGS.values(), *((20, scale) for scale in MORE_SCALES)]
    settings = {setting_name(*each): Setting(steps=each[0], guidance_scale=each[1]) for each in sorted(every)}
    if images < IMAGES:
        settings = {name: settings[name] for name in ("1 step", "20 steps", "20 steps, CFG 3")}
    if not {REAL, AT_T_INIT, *settings} - results.teacher.keys():
        return
    set_threads(1)  # as for the students that train meanwhile
    domain = domain_named(workshop.domain)
    judge, held_out = (resolve(workshop.inputs[name]) for name in ("--judge", "--held-out"))
    protocols = load_domain_protocols(domain, read_held_out(held_out), judge, images)
    work = EvaluationWork(parts=FolderStore(str(workshop.work / "teacher-parts")))

    def keep(name: str, scores: Sequence[Score]) -> None:
        results.teacher[name] = {each.name: each.value for each in scores if each.name in SCORES}
        results.save()

    teacher = resolve(workshop.inputs["--teacher"], folder=DIFFUSERS)
    digest = str(results.inputs["teacher"])
    known = read_teacher_scores(teacher, digest, protocols.digests, images).values()
    scored = {setting_name(each.steps, each.guidance_scale): each.scores for each in known}
    sampler = StockSampler(teacher, sha256=digest)
    for name, setting in settings.items():
        if name not in results.teacher:
            keep(name, scored.get(name) or score_subject(name, sampler, setting, [protocols], work)[0].scores)
    first = FewSteps(t_init=RECIPE.t_init, count=1, noise="fresh")
    sampler.pipeline.scheduler = student_scheduler(sampler.pipeline.scheduler, first)
    sampler.identity += " at t_init"
    alone = Setting(steps=1, guidance_scale=0.0)
    keep(AT_T_INIT, score_subject(AT_T_INIT, sampler, alone, [protocols], work)[0].scores)
    keep(REAL, protocols.score(real_images(domain, protocols.captions, BASELINE_SEED)))
