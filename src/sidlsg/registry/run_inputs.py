"""What went into a student, as dataset inputs of its MLflow run: MLflow lists runs by what they read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from sidlsg.storage.records import PromptSet, Student
from sidlsg.storage.uri import split_pin

TEACHER, HELD_OUT, JUDGE = "teacher", "held-out captions", "judge"
_DIGEST = 36
"""MLflow's limit of a digest's length; the source has it in full."""


def training_inputs(student: Student, prompts: PromptSet | None, teacher: str = "") -> list[DatasetInput]:
    """The teacher and the prompts.

    Args:
        student: names the teacher by digest.
        prompts: the prompt set that is among the student's records, if it is.
        teacher: place of the teacher with its digest; empty where nobody knows it any more.
    """
    place, sha256 = split_pin(teacher)
    source = {"place": place, "sha256": sha256} if sha256 == student.teacher_sha256 else {}
    read = [_input(TEACHER, student.teacher_sha256, source or {"sha256": student.teacher_sha256}, "distillation")]
    if prompts is not None:
        profile = {"prompts": prompts.count, **{f"left_by_{step.name}": step.rows_out for step in prompts.funnel}}
        source = {"prompt_set_sha256": prompts.digest, "source_sha256": prompts.source_sha256}
        read.append(_input(f"prompt set {prompts.digest[:8]}", prompts.digest, source, "distillation", profile))
    return read


def evaluation_inputs(places: Mapping[str, str]) -> list[DatasetInput]:
    """What an evaluation read besides the student.

    Args:
        places: by name, each with its digest, see `sidlsg.storage.uri.pinned_uri`.
    """
    found = {name: split_pin(place) for name, place in places.items()}
    return [
        _input(name, sha256, {"place": place, "sha256": sha256}, "evaluation")
        for name, (place, sha256) in found.items()
    ]


def _input(
    name: str, digest: str, source: Mapping[str, str], context: str, profile: Mapping[str, Any] | None = None
) -> DatasetInput:
    dataset = Dataset(
        name=name,
        digest=digest[:_DIGEST],
        source_type="sidlsg",
        source=json.dumps(source),
        profile=json.dumps(profile) if profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
