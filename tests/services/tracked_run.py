"""A short training that tells MLflow of itself, as a process of its own, so that it can be killed.

`python tracked_run.py PROMPTS TEACHER FOLDER CHANGES ADDRESS EXPERIMENT`
"""

from __future__ import annotations

import sys
from pathlib import Path

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.runtime.progress import note as say
from sidlsg.stages.distil import Extras, distil
from sidlsg.storage.records import Student


def tracked(prompts: Path, teacher: Path, folder: Path, changes: str, address: str, experiment: str) -> Student:
    """Train to the end, from wherever an earlier call got."""
    recipe = recipe_with_changes("tiny", changes)
    extras = Extras(tracking_uri=address, experiment=experiment)
    return distil(prompts, teacher, folder / "student", recipe, 0, folder / "checkpoints", say, extras)


if __name__ == "__main__":
    tracked(*map(Path, sys.argv[1:4]), *sys.argv[4:])
