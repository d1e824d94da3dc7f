"""A tiny untrained student in the shape that the distil stage exports, and one MLflow store for the whole package."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from sidlsg.registry.connection import connect
from sidlsg.storage.records import FileRef, Score, Scorecard, Student, SubjectScores, file_ref

MakeStudent = Callable[..., Path]
MakeScorecard = Callable[..., Path]


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store shared by all tests; each test uses its own model name."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return connect(tracking_uri, create=True)


@pytest.fixture(autouse=True)
def nothing_lands_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow likes to make ./mlruns or ./mlflow.db: every test runs in an empty folder that must stay empty."""
    here = tmp_path / "current-directory"
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    yield
    assert list(here.iterdir()) == []


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real `StableDiffusionPipeline` folder with random weights."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    from sidlsg.bundled.tiny_sd import new_scheduler, new_text_encoder, new_tokenizer, new_unet, new_vae

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = new_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=new_vae(),
        text_encoder=new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=new_unet(),
        scheduler=EulerDiscreteScheduler.from_config(new_scheduler().config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("pipeline") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_student(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeStudent:
    """Write a student folder; students of unlike `seed` are unlike students."""

    def make(seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("student") / "exported"
        # Hard links: the weights are only read, and a test that damages a file replaces it.
        shutil.copytree(pipeline_folder, folder, copy_function=os.link)
        model = tuple(file_ref(path, folder) for path in sorted(folder.rglob("*")) if path.is_file())
        rows = [
            {"iteration": 1, "images_seen": 32, "fake_score_loss": 3.0, "generator_loss": 5.5, "note": "start"},
            {"iteration": 2, "images_seen": 64, "fake_score_loss": 2.5, "generator_loss": float("nan")},
        ]
        log = folder / "training_log.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        grids = []
        for step in (32, 64):
            grid = folder / "grids" / f"{step:07d}.png"
            grid.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (step, seed % 256, 0)).save(grid)
            grids.append(file_ref(grid, folder))
        (folder / "README.md").write_text("# A tiny student\n")
        Student(
            recipe="tiny",
            recipe_values={"lr": 1e-4, "seed": 999, "optimizer": {"betas": [0.0, 0.999]}, "note": "plain text"},
            strategy="lsg",
            kappas=(2.0, 2.0, 2.0, 1.5),
            teacher_sha256="a" * 64,
            prompts_sha256="b" * 64,
            package_sha256="c" * 64,
            seed=seed,
            t_init=625,
            iterations=2,
            images_seen=64,
            nan_samples=0,
            seconds=1.5,
            hardware="two cores",
            model=model,
            training_log=file_ref(log, folder),
            grids=tuple(grids),
        ).save(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def make_scorecard(tmp_path_factory: pytest.TempPathFactory) -> MakeScorecard:
    """Write a scorecard folder with a FID (lower is better) and an accuracy (higher is better)."""

    def make(student_sha256: str, fid: float = 2.0, accuracy: float = 0.9, protocol: str = "fid/judge-2k") -> Path:
        folder = tmp_path_factory.mktemp("scorecard")

        def subject(name: str, steps: int, fid: float, accuracy: float) -> SubjectScores:
            scores = (
                Score(name="fid", value=fid, protocol=protocol, n=2000, reference_digest="r1", higher_is_better=False),
                Score(
                    name="accuracy",
                    value=accuracy,
                    protocol="judge/attributes",
                    n=2000,
                    reference_digest="r2",
                    higher_is_better=True,
                    interval=(accuracy - 0.01, accuracy + 0.01),
                ),
            )
            return SubjectScores(subject=name, steps=steps, guidance_scale=0.0, scores=scores)

        grid = folder / "grids" / "student 1 step.png"
        grid.parent.mkdir()
        Image.new("RGB", (8, 8)).save(grid)
        ref: FileRef = file_ref(grid, folder)
        Scorecard(
            student_sha256=student_sha256,
            teacher_sha256="a" * 64,
            package_sha256="c" * 64,
            subjects=(subject("student 1 step", 1, fid, accuracy), subject("teacher 1 step", 1, 20.0, 0.4)),
            grids=(ref,),
            grid_prompts=("a small red circle on a blue background",),
            reused=(),
            seconds=1.0,
        ).save(folder)
        return folder

    return make
