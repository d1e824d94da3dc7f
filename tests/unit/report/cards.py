"""Scorecards by hand: each score a name with a value, protocols and counts as they are or as a test has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidlsg.storage.records import Score, Scorecard, SubjectScores

PROTOCOLS = {
    "fid": ("fid/coco2014-30k-clean", 30_000, False),
    "clip": ("clip/vit-g-14-photo-depicts", 30_000, True),
    "precision": ("pr/inception-k3", 30_000, True),
    "recall": ("pr/inception-k3", 30_000, True),
    "hpsv2_v2_0": ("hpsv2/v2.0", 3_200, True),
    "fid_judge": ("fid/shapes-judge64-2016", 2_016, False),
    "attributes": ("attributes/shapes-judge-mean-2016", 2_016, True),
}


def score(name: str, value: float, **changes: Any) -> Score:
    protocol, n, higher = PROTOCOLS[name]
    fields = {"protocol": protocol, "n": n, "reference_digest": "d" * 64, "higher_is_better": higher, **changes}
    return Score(name=name, value=value, **fields)


def subject(name: str, steps: int, scores: dict[str, float] | Sequence[Score], **changes: Any) -> SubjectScores:
    found = [score(each, value) for each, value in scores.items()] if isinstance(scores, dict) else scores
    return SubjectScores(subject=name, steps=steps, scores=tuple(found), **{"guidance_scale": 1.0, **changes})


def card(*subjects: SubjectScores, **changes: Any) -> Scorecard:
    fields = {"student_sha256": "5" * 64, "teacher_sha256": "a" * 64, "package_sha256": "c" * 64, "grids": ()}
    return Scorecard(subjects=subjects, **{**fields, "grid_prompts": (), "reused": (), "seconds": 1.0, **changes})
