"""A short training that tells MLflow of itself, as a process of its own, so that it can be killed.

`python tracked_run.py PROMPTS TEACHER FOLDER CHANGES ADDRESS EXPERIMENT`
"""

from __future__ import annotations

import sys
from pathlib import Path

from sidlsg.distil.stage import Extras, distil, run_identity, run_name
from sidlsg.recipes.recipe import recipe_with_changes
from sidlsg.records import PromptSet, Student
from sidlsg.run.lines import say
from sidlsg.teacher.folder import folder_digest
from sidlsg.track.tracker import open_tracker
from sidlsg.track.utilisation import Utilisation


def tracked(prompts: Path, teacher: Path, folder: Path, changes: str, address: str, experiment: str) -> Student:
    """Train to the end, from wherever an earlier call got."""
    recipe = recipe_with_changes("tiny", changes)
    teacher_sha256, prompts_sha256 = folder_digest(teacher), PromptSet.load(prompts).digest
    identity = run_identity(recipe, teacher_sha256, prompts_sha256, 0)
    tracker = open_tracker(
        address,
        experiment,
        identity.key,
        run_name(recipe, identity),
        recipe,
        seed=0,
        teacher_sha256=teacher_sha256,
        prompts_sha256=prompts_sha256,
        report=say,
        utilisation=Utilisation(flops_per_image=1e9, device_peak=1e11),
    )
    try:
        student = distil(
            prompts, teacher, folder / "student", recipe, 0, folder / "checkpoints", say, Extras(observers=[tracker])
        )
    except BaseException as error:
        tracker.failed(error)
        raise
    tracker.finish(student)
    return student


if __name__ == "__main__":
    tracked(*map(Path, sys.argv[1:4]), *sys.argv[4:])
