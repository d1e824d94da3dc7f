"""Scripts of the workflows, run as GitHub runs them, as far as that goes without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from services.kfp_server import KfpServer
from services.test_verdict_of_run import judge
from sidlsg import __version__
from sidlsg.registry.connection import connect
from workflows.files import ROOT, WORKFLOWS

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


@pytest.mark.parametrize(
    ("verdict", "code"),
    [*(pytest.param(verdict, 0, marks=pytest.mark.long) for verdict in ("passed", "awaiting")), ("rejected", 3)],
)
def test_retraining_ends_with_the_gates_verdict_on_the_jobs_page(checkout: Path, verdict: str, code: int) -> None:
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
                judge(client, server.runs[0]["run_id"], "sd15", verdict)

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
            GITHUB_OUTPUT=str(checkout / "given"),
        )
        assert done.returncode == code, done.stderr
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
    said = {"passed": "passed the gate", "awaiting": "awaits an approval", "rejected": "did not pass the gate"}
    assert f"**Version 1 of sd15 {said[verdict]}.**" in page
    assert (checkout / "given").read_text() == f"verdict={verdict}\nmodel=sd15\nversion=1\n"
    assert "secret-token" not in page + done.stdout + done.stderr


def stub(folder: Path, name: str, script: str) -> str:
    """A program that is found before others; returns the PATH that finds it."""
    program = folder / "stubs" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize(("answer", "code"), [("ann", 0), ("", 1)])
def test_the_reviewer_is_the_one_who_approved(tmp_path: Path, answer: str, code: int) -> None:
    path = stub(tmp_path, "gh", f'printf "%s\\n" "$@" > asked; echo "{answer}"')
    given = {"PATH": path, "REPOSITORY": "me/sidlsg", "GITHUB_RUN_ID": "77", "GITHUB_OUTPUT": str(tmp_path / "given")}
    done = run(WORKFLOWS["retrain"].script("Who approved"), tmp_path, **given)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "asked").read_text().startswith("api\nrepos/me/sidlsg/actions/runs/77/approvals\n--jq\n")
    if code:
        assert "::error::nobody approved; give the environment promotion required reviewers" in done.stdout
    else:
        assert (tmp_path / "given").read_text() == "who=ann\n"


@pytest.mark.parametrize(("fails", "code"), [("", 0), ("approve", 3), ("promote", 2)])
def test_what_was_approved_is_promoted_or_the_page_says_that_it_was_not(tmp_path: Path, fails: str, code: int) -> None:
    stub(tmp_path, "sidlsg", f'echo "$@" >> called; [ "$1" != "{fails}" ] || exit {code}')
    (tmp_path / ".venv").mkdir()
    (tmp_path / "stubs").rename(tmp_path / ".venv" / "bin")
    done = run(
        WORKFLOWS["retrain"].script("Record the approval, judge again, and promote"),
        tmp_path,
        MODEL="sd15",
        VERSION="4",
        WHO="ann",
        TRACKING_URI="http://mlflow",
        GITHUB_STEP_SUMMARY=str(tmp_path / "page.md"),
    )
    assert done.returncode == code, done.stderr
    called = [
        "approve sd15 4 --by ann --tracking-uri http://mlflow --output verdict",
        "promote --verdict verdict --tracking-uri http://mlflow",
    ]
    assert (tmp_path / "called").read_text().splitlines() == (called[:1] if fails == "approve" else called)
    page = (tmp_path / "page.md").read_text()
    if fails:
        assert page == "**Version 4 of sd15 was approved by ann and not promoted; the log of this job says why.**\n"
    else:
        assert page == "**Version 4 of sd15 was approved by ann and is the champion.**\n"


def test_a_refused_approval_is_a_rejection(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    given = {"MODEL": "sd15", "VERSION": "4", "GITHUB_STEP_SUMMARY": str(page)}
    assert run(WORKFLOWS["retrain"].script("Say so"), tmp_path, **given).returncode == 3
    assert (
        page.read_text()
        == "**Version 4 of sd15 was not approved, or who approved could not be read. The champion stays.**\n"
    )


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
    images = {name: f"r/sidlsg-{name}@{DIGEST}" for name in ("train", "curate", "evaluate", "mlflow", "trigger")}
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
    (pipeline, version) = yaml.safe_load_all((checkout / "release" / "evaluate_only-manifest.yaml").read_text())
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert images["evaluate"] in json.dumps(version["spec"]["pipelineSpec"])

    for folder in ("infra", "images"):
        (checkout / folder).symlink_to(ROOT / folder)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = run(WORKFLOWS["release"].script("Render each overlay with them"), checkout, PATH=path)
    assert done.returncode == 0, done.stderr
    for overlay in ("local", "team", "production"):
        rendered = (checkout / "release" / f"infra-{overlay}.yaml").read_text()
        found = set(re.findall(r" image: (.*sidlsg.*)$", rendered, re.MULTILINE))
        wanted = {"mlflow", "trigger"} | ({"train"} if overlay != "local" else set())
        assert found == {images[name] for name in wanted}
        assert list(yaml.safe_load_all(rendered))
    sums = WORKFLOWS["release"].script("Digests of all files")
    assert run(sums, checkout / "release").returncode == 0
    names = [line.split()[1] for line in (checkout / "release" / "SHA256SUMS").read_text().splitlines()]
    overlays = ["infra-local.yaml", "infra-production.yaml", "infra-team.yaml"]
    assert names == [
        "evaluate_only-manifest.yaml",
        "evaluate_only.yaml",
        "images.json",
        "images.toml",
        *overlays,
        "requirements-hashed.txt",
    ]


def origin(tmp_path: Path) -> Path:
    """A checkout of a repository with a profile, whose origin is a folder."""
    folder, bare = tmp_path / "checkout", tmp_path / "origin.git"
    (folder / "infra" / "profiles").mkdir(parents=True)
    (folder / "infra" / "profiles" / "team.toml").write_text("old\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (
        ["init", "--quiet", "--bare", str(bare)],
        ["init", "--quiet", "--initial-branch", "main"],
        ["add", "."],
        ["commit", "--quiet", "--message", "x"],
        ["remote", "add", "origin", str(bare)],
        ["push", "--quiet", "origin", "main"],
    ):
        subprocess.run([*git, *words], cwd=folder, check=True, capture_output=True)
    return folder


def test_the_new_digests_become_one_pull_request_however_often_the_job_runs(tmp_path: Path) -> None:
    folder = origin(tmp_path)
    opened = tmp_path / "opened"
    path = stub(
        tmp_path,
        "gh",
        f'case "$1 $2" in "pr list") [ -f {opened} ] && echo 1 || echo 0;; "pr create") echo "$@" >> {opened};; esac',
    )
    given = {"PATH": path, "GITHUB_REF_NAME": "v1.2.3", "GITHUB_STEP_SUMMARY": str(tmp_path / "page.md")}
    script = WORKFLOWS["release"].script("Ask for the change, if there is one")
    assert run(script, folder, **given).returncode == 0
    assert "the profiles have these images already" in (tmp_path / "page.md").read_text()
    assert not opened.exists()
    for _ in range(2):
        (folder / "infra" / "profiles" / "team.toml").write_text("new\n")
        (folder / "other").write_text("not asked for")
        done = run(script, folder, **given)
        assert done.returncode == 0, done.stderr
        # A job that is run again begins with a checkout.
        for words in (["switch", "--quiet", "main"], ["branch", "--quiet", "-D", "images-v1.2.3"]):
            subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    (created,) = opened.read_text().splitlines()
    assert created.startswith("pr create --head images-v1.2.3 --title Images of v1.2.3 ")
    show = ["git", "diff", "--name-only", "main", "images-v1.2.3"]
    changed = subprocess.run(show, cwd=tmp_path / "origin.git", check=True, capture_output=True, text=True)
    assert changed.stdout == "infra/profiles/team.toml\n"
