"""A teacher's own scores, stored with its files so that evaluations can reuse them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.storage.records import Record, SubjectScores
from sidlsg.teacher.setting import Setting

CFG = 3.0
"""The guidance scale of the settings "with CFG"."""
TEACHER_SETTINGS: dict[str, tuple[int, float]] = {
    "teacher 50 steps, CFG": (50, CFG),
    "teacher 50 steps": (50, 1.0),
    "teacher 20 steps, CFG": (20, CFG),
    "teacher 20 steps": (20, 1.0),
    "teacher 4 steps, CFG": (4, CFG),
    "teacher 4 steps": (4, 1.0),
    "teacher 1 step, CFG": (1, CFG),
    "teacher 1 step": (1, 1.0),
}
"""Steps and guidance scale by subject; at scale 1 only the conditional pass runs."""


def setting_of(name: str) -> Setting:
    """The setting of a name."""
    steps, guidance_scale = TEACHER_SETTINGS[name]
    return Setting(steps=steps, guidance_scale=guidance_scale)


def require_settings(names: Sequence[str]) -> tuple[str, ...]:
    """Check the names of settings; raises InputError with the nearest name for an unknown one."""
    for name in names:
        if name not in TEACHER_SETTINGS:
            raise InputError(
                f"the teacher has no setting {name!r}{nearest(name, TEACHER_SETTINGS)}; allowed: "
                f"{'; '.join(TEACHER_SETTINGS)}"
            )
    return tuple(names)


@dataclass(frozen=True, kw_only=True)
class TeacherScores(Record):
    """Scores of a teacher's folder."""

    FILE: ClassVar[str] = "teacher_scores.json"
    teacher_sha256: str
    """Digest of the scored model files."""
    subjects: tuple[SubjectScores, ...]


def read_teacher_scores(
    teacher: Path, teacher_sha256: str, digests: Mapping[str, str], count: int
) -> dict[str, SubjectScores]:
    """The stored subjects whose scores are still valid.

    They were sampled from these model files at today's setting, and have a score of every protocol for the same
    reference and number of images.

    Args:
        teacher: folder of the teacher.
        teacher_sha256: digest of its model files.
        digests: reference digest by protocol.
        count: number of images.
    """
    if not (teacher / TeacherScores.FILE).is_file():
        return {}
    stored = TeacherScores.load(teacher)
    if stored.teacher_sha256 != teacher_sha256:
        return {}
    return {
        subject.subject: subject
        for subject in stored.subjects
        if TEACHER_SETTINGS.get(subject.subject) == (subject.steps, subject.guidance_scale)
        and {score.protocol for score in subject.scores} == digests.keys()
        and all(score.n == count and score.reference_digest == digests[score.protocol] for score in subject.scores)
    }
