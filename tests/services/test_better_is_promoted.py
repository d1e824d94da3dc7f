"""Real students on real servers: a worse one is refused with the numbers, a better one is promoted, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from forked import run
from sidlsg.registry.server.stack import Stack

NAME = "weekly"
REFUSED = 3
RULES = """
[[better]]
score = "fid_judge"

[[not_worse]]
score = "attributes"

[[required]]
protocol = "fid/shapes-judge64-2016"
"""


def sidlsg(folder: Path, *words: str, code: int = 0) -> str:
    done = run(words, cwd=folder)
    assert done.returncode == code, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With prompts, and the gate's rules."""
    (tmp_path / "rules.toml").write_text(RULES)
    source = ("--source", "bundled:prompts/prompts.parquet", "--held-out", "bundled:prompts/held_out.txt")
    sidlsg(tmp_path, "curate", *source, "--output", "prompts")
    return tmp_path


def student(folder: Path, name: str, iterations: int) -> None:
    """Distil one, and score it."""
    values = {"iterations": iterations, "batch": 32, "micro_batch": 32, "evaluate_every": 0, "on_alarm": "off"}
    changes = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    places = ("--prompts", "prompts", "--checkpoints", f"{name}/checkpoints", "--output", f"{name}/student")
    sidlsg(folder, "distil", *places, *changes)
    sidlsg(folder, "evaluate", "--student", f"{name}/student", "--output", f"{name}/scorecard")


def judged(folder: Path, name: str, uri: str, code: int = 0) -> str:
    """Register, judge, and promote if it passed."""
    there = ("--tracking-uri", uri)
    sidlsg(folder, "register", "--student", f"{name}/student", "--name", NAME, "--output", name, *there)
    told = sidlsg(
        folder,
        "gate",
        *("--version", name, "--scorecard", f"{name}/scorecard", "--rules", "rules.toml", "--output", name),
        *there,
        code=code,
    )
    sidlsg(folder, "promote", "--verdict", name, *there, code=code)
    return told


@pytest.mark.long
def test_better_is_promoted_and_worse_is_refused(servers: Stack, folder: Path) -> None:
    uri = servers.mlflow.address
    client = MlflowClient(uri)

    def aliases() -> dict[str, int]:
        return {name: int(number) for name, number in client.get_registered_model(NAME).aliases.items()}

    student(folder, "first", 4)
    judged(folder, "first", uri)
    assert aliases() == {"champion": 1}

    student(folder, "better", 60)
    judged(folder, "better", uri)
    assert aliases() == {"champion": 2, "previous": 1}

    student(folder, "worse", 2)
    told = judged(folder, "worse", uri, code=REFUSED)
    distances = {
        name: next(
            score["value"]
            for subject in json.loads((folder / name / "scorecard" / "scorecard.json").read_text())["subjects"]
            if subject["subject"] == "student 1 step"
            for score in subject["scores"]
            if score["name"] == "fid_judge"
        )
        for name in ("first", "better", "worse")
    }
    print(distances, told)  # noqa: T201
    assert distances["better"] < distances["first"] < distances["worse"]
    tags = client.get_model_version(NAME, "3").tags
    assert tags["verdict"] == "rejected"
    said = " ".join(value for key, value in tags.items() if key.startswith("rule."))
    for number in (distances["worse"], distances["better"]):
        assert f"{number:.6g}" in said
        assert f"{number:.6g}" in told.replace("\n", " ")
    assert aliases() == {"champion": 2, "previous": 1}

    sidlsg(folder, "rollback", NAME, "--tracking-uri", uri, "--reason", "to see whether it can")
    assert aliases() == {"champion": 1, "previous": 2}
    assert "rollback: to see whether it can" in client.get_model_version(NAME, "1").tags["change.3.0"]
