"""The whole recipe `tiny` on a GPU: its student must be as good as the gate asks of the CPU's. A few minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.prompts.held_out import read_held_out
from sidlsg.stages.distil import distil
from sidlsg.stages.evaluate import STUDENT, evaluate

pytestmark = pytest.mark.gpu


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("precision", "seed"), [("fp32", 0), ("bf16", 1)])
def test_a_student_is_as_good_as_the_cpus(
    tiny_prompts: Path, assets: Path, tmp_path: Path, precision: str, seed: int
) -> None:
    recipe = recipe_with_changes("tiny", json.dumps({"precision": precision, "evaluate_every": 0}))
    teacher, student = assets / "tiny-sd", tmp_path / "student"
    made = distil(tiny_prompts, teacher, student, recipe, seed, tmp_path / "checkpoints", print)
    held_out, judge = read_held_out(assets / "prompts" / "held_out.txt"), assets / "judge" / "judge.safetensors"
    scorecard = evaluate(student, teacher, tmp_path / "scorecard", held_out, judge, print)
    scores = {subject.subject: {score.name: score.value for score in subject.scores} for subject in scorecard.subjects}
    print(f"{precision}, seed {seed}: {made.seconds:.0f} s, {scores[STUDENT]}")
    ours, theirs = scores[STUDENT], scores["teacher 20 steps"]
    assert made.nan_samples == 0
    assert ours["fid_judge"] < 3 * theirs["fid_judge"]
    assert ours["attributes"] > 0.99 * theirs["attributes"]
