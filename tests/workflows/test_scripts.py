"""Scripts of the workflows, run as GitHub runs them, as far as that goes without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.kfp_server import KfpServer
from services.test_verdict_of_run import judge
from sidlsg import __version__
from sidlsg.registry.connect import connect
from workflows.files import WORKFLOWS

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the program where `make setup` puts it."""
    program = tmp_path / ".venv" / "bin" / "sidlsg"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidlsg "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As GitHub does it: bash that ends at the first error."""
    command = ["bash", "--noprofile", "--norc", "-e", "-c", script]
    given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=300)


def test_retraining_ends_with_the_gates_verdict_on_the_jobs_page(checkout: Path) -> None:
    workflow, store = WORKFLOWS["retrain"], f"sqlite:///{checkout}/mlflow.db"
    client = connect(store, create=True)
    images = "".join(f'{name} = "r.example.com/sidlsg-{name}@{DIGEST}"\n' for name in ("curate", "train", "evaluate"))
    (checkout / "cluster.toml").write_text(f"[images]\n{images}")
    common = {"PROFILE": "cluster.toml", "NAMESPACE": "", "KFP_TOKEN": "secret-token", "TRACKING_URI": store}
    (checkout / "weights.toml").write_text('[captions]\nplace = "captions.txt"\n')
    compiled = run(workflow.script("Compile the pipeline"), checkout, **common)
    assert compiled.returncode == 0, compiled.stderr
    with KfpServer(token="secret-token") as server:
        server.states = ["PENDING", "SUCCEEDED"]

        def look() -> None:
            if server.runs and not client.search_registered_models():
                judge(client, server.runs[0]["run_id"], "sd15", "rejected")

        server.look = look
        done = run(
            workflow.script("Upload a version, start a run, and wait for the verdict"),
            checkout,
            **common,
            KF_PIPELINES_ENDPOINT=server.host,
            GITHUB_RUN_ID="77",
            RECIPE="tiny",
            MODEL_NAME="sd15",
            SEED="3",
            PRICES='{"distil": 12.5}',
            TEACHER="",
            PROMPTS="s3://data/captions",
            HELD_OUT="",
            PROTOCOLS="",
            WEIGHTS_FILE="weights.toml",
            GATE_RULES_FILE="",
            GITHUB_STEP_SUMMARY=str(checkout / "page.md"),
        )
        assert done.returncode == 3, done.stderr
        (started,) = server.runs
        assert started["display_name"] == "retrain-77"
        assert started["runtime_config"]["parameters"] == {
            "recipe": "tiny",
            "model_name": "sd15",
            "seed": "3",
            "prices": {"distil": 12.5},
            "prompts": "s3://data/captions",
            "weights": '[captions]\nplace = "captions.txt"',
        }
        assert not server.wrong
    page = (checkout / "page.md").read_text()
    assert "## retrain-77: succeeded" in page
    assert "**Version 1 of sd15 did not pass the gate.**" in page
    assert "secret-token" not in page + done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["PROFILE", "TRACKING_URI"])
def test_retraining_without_what_it_needs_says_what_to_set(checkout: Path, missing: str) -> None:
    given = {"PROFILE": "cluster.toml", "TRACKING_URI": "http://mlflow:5000", missing: ""}
    done = run(WORKFLOWS["retrain"].script("Compile the pipeline"), checkout, **given)
    assert done.returncode == 1
    name = {"TRACKING_URI": "SIDLSG_MLFLOW", "PROFILE": "SIDLSG_PROFILE"}[missing]
    assert f"set the variable {name}" in done.stdout


@pytest.mark.parametrize(("tag", "code"), [(f"v{__version__}", 0), ("v999.0", 1)])
def test_a_release_has_the_packages_version(checkout: Path, tag: str, code: int) -> None:
    done = run(WORKFLOWS["release"].script("The tag is the package's version"), checkout, GITHUB_REF_NAME=tag)
    assert done.returncode == code, done.stderr
    assert ("::error::" in done.stdout) == bool(code)


@pytest.fixture
def commit(tmp_path: Path) -> Path:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    when = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+01:00"}
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(
        ["git", *author, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True, env=when
    )
    return tmp_path


@pytest.mark.parametrize(
    ("name", "base"),
    [("train", f"BASE=cuda@{DIGEST}"), ("curate", f"BASE=python@{DIGEST}"), ("mlflow", "BASE=python@")],
)
def test_an_image_has_its_name_its_commits_time_and_a_base_by_digest(commit: Path, name: str, base: str) -> None:
    output = commit / "output"
    python = f"python@{DIGEST}" if name == "curate" else "python:3.11"
    done = run(
        WORKFLOWS["images"].script("Name, labels and base"),
        commit,
        NAME=name,
        REGISTRY="GHCR.io",
        GITHUB_REPOSITORY_OWNER="Some-One",
        GITHUB_OUTPUT=str(output),
        PYTHON_BASE=python,
        CUDA_BASE=f"cuda@{DIGEST}",
    )
    if name == "mlflow":
        assert done.returncode == 1
        assert "the base of mlflow is not given by digest" in done.stdout
        return
    assert done.returncode == 0, done.stderr
    image = f"image=ghcr.io/some-one/sidlsg-{name}"
    assert output.read_text().splitlines() == [image, "created=2026-01-02T02:04:05Z", f"base={base}"]


def test_the_images_digests_reach_the_pipelines(checkout: Path) -> None:
    workflow = WORKFLOWS["images"]
    images = {name: f"r/sidlsg-{name}@{DIGEST}" for name in ("train", "curate", "evaluate")}
    for name, image in images.items():
        assert run(workflow.script("Write the digest down"), checkout, NAME=name, IMAGE=image).returncode == 0
    assert run(workflow.script("One file"), checkout).returncode == 0
    assert json.loads((checkout / "images.json").read_text()) == images

    (checkout / "release").mkdir()
    (checkout / "images.json").rename(checkout / "release" / "images.json")
    # One of them, which takes seconds; that all are named is tested beside.
    every = WORKFLOWS["release"].script("Compile each pipeline with them")
    done = run(re.sub(r"for pipeline in .*; do", "for pipeline in evaluate_only; do", every), checkout)
    assert done.returncode == 0, done.stderr
    compiled = (checkout / "release" / "evaluate_only.yaml").read_text()
    assert set(re.findall(r"^ +image: (.*)$", compiled, re.MULTILINE)) == {images["evaluate"], images["curate"]}
    sums = WORKFLOWS["release"].script("Digests of all files")
    assert run(sums, checkout / "release").returncode == 0
    names = [line.split()[1] for line in (checkout / "release" / "SHA256SUMS").read_text().splitlines()]
    assert names == ["evaluate_only.yaml", "images.json", "images.toml"]
