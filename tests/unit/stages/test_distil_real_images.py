"""Training with real images: what it needs and records, and that processes, kills and restarts change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from forked import Program
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.real_images import write_real_images
from sidlsg.distil.recipes import Recipe, recipe_with_changes
from sidlsg.distil.run_identity import run_identity
from sidlsg.runtime.errors import InputError
from sidlsg.stages.distil import Extras, distil
from sidlsg.stages.real_images import encode_real_images
from sidlsg.storage.real_image_set import RealImageSet, real_images_of
from sidlsg.storage.records import Student

TERM = {"lambda_d": 0.1, "lambda_g": 0.1, "freeze": 16, "join": 24}
CHANGES: dict[str, Any] = {
    "iterations": 6,
    "batch": 8,
    "micro_batch": 4,
    "grids": 0,
    "log_every": 1,
    "evaluate_every": 0,
    "checkpoint_every": 2,
    "adversarial": TERM,
}


def recipe(**changes: Any) -> Recipe:
    return recipe_with_changes("tiny", json.dumps(CHANGES | changes))


@pytest.fixture(scope="module")
def real(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    write_real_images(SHAPES, folder / "shapes.tar", 40, 0)
    encode_real_images(str(folder / "shapes.tar"), assets / "tiny-sd", [], folder / "set", [].append, licence="CC0-1.0")
    return folder / "set"


@pytest.mark.parametrize(
    ("given", "term", "message"),
    [
        (False, TERM, r"the recipe's adversarial term needs real images, and none are given; give --real-images"),
        (True, {}, r"set are real images, which the recipe does not use; take one with an adversarial term"),
    ],
)
def test_the_term_and_images_come_together(
    given: bool, term: dict[str, float], message: str, real: Path, tiny_student: Path, assets: Path, tmp_path: Path
) -> None:
    extras = Extras(real_images=real if given else None)
    inputs = (tiny_student.parent / "prompts", assets / "tiny-sd", tmp_path / "student")
    with pytest.raises(InputError, match=message):
        distil(*inputs, recipe(adversarial=term), 0, tmp_path / "checkpoints", [].append, extras)
    assert not (tmp_path / "checkpoints").exists()


def test_the_images_are_part_of_a_runs_identity_and_where_they_come_from_is_not() -> None:
    plain = run_identity(recipe(adversarial={}), "1" * 64, "2" * 64, 0)
    with_images = run_identity(recipe(), "1" * 64, "2" * 64, 0, "", "3" * 64)
    assert set(with_images.parts) - set(plain.parts) == {"adversarial", "real_images"}
    moved = recipe(real_images={"source": "s3://elsewhere/images"})
    assert run_identity(moved, "1" * 64, "2" * 64, 0, "", "3" * 64) == with_images
    assert json.loads(with_images.parts["adversarial"]) == {name: float(value) for name, value in TERM.items()}


Train = Callable[..., Program]


@pytest.fixture
def training(real: Path, tiny_student: Path, assets: Path, tmp_path: Path) -> Iterator[Train]:
    def start(name: str, processes: int = 1) -> Program:
        words = [
            *("distil", "--prompts", str(tiny_student.parent / "prompts"), "--teacher", str(assets / "tiny-sd")),
            *("--recipe", "tiny", "--real-images", str(real), "--processes", str(processes), "--threads", "1"),
            *("--output", str(tmp_path / name), "--checkpoints", str(tmp_path / f"{name} state")),
        ]
        for key, value in CHANGES.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        return Program(words)

    yield start


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]


def test_a_training_freezes_joins_and_records_its_images(training: Train, real: Path, tmp_path: Path) -> None:
    assert training("student").wait() == 0
    log = rows(tmp_path / "student")
    assert ["generator_loss" in row for row in log] == [False, False, True, True, True, True]
    assert ["adversarial_loss" in row for row in log] == [False, False, False, True, True, True]
    assert all({"discriminator_loss", "real_logit", "fake_logit", "logits_saturated"} <= row.keys() for row in log)
    student = Student.load(tmp_path / "student")
    student.verify(tmp_path / "student")
    assert student.recipe_values["adversarial"] == TERM
    assert real_images_of(student, tmp_path / "student") == RealImageSet.load(real)
    card = (tmp_path / "student" / "README.md").read_text()
    record = RealImageSet.load(real)
    assert f"| real images | 40 from {record.source} (SHA-256 {record.source_sha256}), licence: CC0-1.0 |" in card
    assert "without any real image" not in card


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 4, "step_noise": "ddim"},
        {"adapter": {"rank": 4}},
        {"adapter": {"rank": 4}, "steps": 2, "precision": "bf16", "activation_checkpointing": True},
        {"strategy": "zero_cfg", "scales": {}},
    ],
    ids=str,
)
def test_the_term_goes_with_steps_adapters_and_other_guidance(
    changes: dict[str, Any], real: Path, tiny_student: Path, assets: Path, tmp_path: Path
) -> None:
    folder, given = tmp_path / "student", (tiny_student.parent / "prompts", assets / "tiny-sd")
    extras = Extras(real_images=real)
    distil(*given, folder, recipe(**changes), 0, tmp_path / "state", [].append, extras)
    Student.load(folder).verify(folder)
    assert ["adversarial_loss" in row for row in rows(folder)] == [False, False, False, True, True, True]
    # A generator that the term does not reach is another one.
    without = {**changes, "adversarial": TERM | {"lambda_g": 0.0}}
    distil(*given, tmp_path / "other", recipe(**without), 0, tmp_path / "other state", [].append, extras)
    one, other = weights(folder), weights(tmp_path / "other")
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.long
def test_one_process_and_two_train_alike(training: Train, tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        assert training(name, processes).wait() == 0
    for key in ("fake_score_loss", "generator_loss", "discriminator_loss"):
        one, two = ([row.get(key, 0.0) for row in rows(tmp_path / name)] for name in ("one", "two"))
        if key != "discriminator_loss":  # of a process's last micro-batch
            assert one == pytest.approx(two, rel=1e-5)
    two = weights(tmp_path / "two")
    assert max(float((each - two[name]).abs().max()) for name, each in weights(tmp_path / "one").items()) < 1e-6
