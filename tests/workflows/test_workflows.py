"""The workflows against GitHub's schema, a linter of their risks, and what this repository has."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sidlsg.cli.app import app
from sidlsg.cli.catalog import PIPELINES
from workflows.files import FOLDER, ROOT, WORKFLOWS, Workflow

BIN = Path(sys.executable).parent
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
SIDLSG = re.compile(r"(?:^|[\s(])(?:[\w./-]*/)?sidlsg +([^()]*)")

every = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)


def ran(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scripts(workflow: Workflow) -> list[str]:
    return [step["run"] for _, step in workflow.steps() if "run" in step]


def commands(workflow: Workflow) -> list[list[str]]:
    """The words of each call of the program, without those that are only known when it runs."""
    lines = [line for script in scripts(workflow) for line in script.replace("\\\n", " ").splitlines()]
    found = [match[1] for line in lines if not line.strip().startswith("#") for match in SIDLSG.finditer(line)]
    return [[word for word in shlex.split(text) if word != "${options[@]}"] for text in found]


def test_there_are_the_ones_that_the_page_tells_of() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    assert list(WORKFLOWS) == ["dependencies", "images", "long", "release", "retrain", "test"]
    assert re.findall(r"^## `(.+)\.yml`$", page, re.MULTILINE) == [
        "test",
        "long",
        "images",
        "release",
        "retrain",
        "dependencies",
    ]


def test_they_fit_githubs_schema() -> None:
    ran(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *FOLDER.glob("*.yml"))
    ran(BIN / "check-jsonschema", "--builtin-schema", "vendor.dependabot", ROOT / ".github" / "dependabot.yml")


def test_a_linter_of_their_risks_finds_nothing() -> None:
    ran(BIN / "zizmor", "--offline", "--persona", "pedantic", "--no-progress", ROOT / ".github")


@every
def test_nobody_gets_more_rights_than_named(workflow: Workflow) -> None:
    assert workflow.content["permissions"] == {}
    for name, job in workflow.jobs.items():
        for scope, right in job["permissions"].items():
            assert right in ("read", "write"), name
            # What may be written is named at the one job that writes it, with the reason.
            assert right == "read" or re.search(rf"^ +{scope}: write # \w", workflow.text, re.MULTILINE), scope


@every
def test_no_job_that_may_write_or_sign_runs_what_packages_bring(workflow: Workflow) -> None:
    for name, step in workflow.steps():
        writes = "write" in workflow.jobs[name].get("permissions", {}).values()
        assert not (writes and re.search(r"\bmake \w|\bpip3? |\.venv/", step.get("run", ""))), (name, step["name"])


@every
def test_each_job_ends_and_no_two_runs_cross(workflow: Workflow) -> None:
    assert workflow.content["concurrency"]["group"]
    for name, job in workflow.jobs.items():
        assert "uses" in job or 0 < job["timeout-minutes"] <= 360, name


@every
def test_each_action_is_pinned_to_a_commit_and_says_its_version(workflow: Workflow) -> None:
    lines = re.findall(r"^ *(?:- )?uses: (.*)$", workflow.text, re.MULTILINE)
    for line in lines:
        if line.startswith("./"):
            assert (ROOT / line.split()[0]).is_file()
        else:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_version_everywhere() -> None:
    found = {line for workflow in WORKFLOWS.values() for line in re.findall(r"uses: (\S+@\S+ # \S+)", workflow.text)}
    names = [line.split("@")[0] for line in found]
    assert len(names) == len(set(names))


@every
def test_no_expression_is_pasted_into_a_script(workflow: Workflow) -> None:
    """What somebody else may have written would be run; values reach scripts through the environment."""
    assert not [script for script in scripts(workflow) if "${{" in script]


@every
def test_scripts_are_bash(workflow: Workflow) -> None:
    for script in scripts(workflow):
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


@every
def test_what_is_needed_or_named_is_there(workflow: Workflow) -> None:
    for name, job in workflow.jobs.items():
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= set(workflow.jobs), name
        ids = {step["id"] for step in job.get("steps", []) if "id" in step}
        told = yaml.safe_dump(job)
        assert set(re.findall(r"steps\.([\w-]+)\.", told)) <= ids
        matrix = job.get("strategy", {}).get("matrix", {})
        assert set(re.findall(r"matrix\.([\w-]+)", told)) <= set(matrix)


@every
def test_variables_of_a_script_are_given_to_it(workflow: Workflow) -> None:
    given_by_github = {"PATH", "GITHUB_OUTPUT", "GITHUB_REF_NAME", "GITHUB_REPOSITORY_OWNER", "GITHUB_RUN_ID"}
    given_by_github |= {"GITHUB_STEP_SUMMARY"}
    for name, step in workflow.steps():
        script = re.sub(r"'[^']*'", "", step.get("run", ""))
        used = set(re.findall(r"\$\{?([A-Z][A-Z_]*)", script))
        own = set(re.findall(r"^ *([A-Z][A-Z_]*)=", script, re.MULTILINE))
        env = {**workflow.content.get("env", {}), **workflow.jobs[name].get("env", {}), **step.get("env", {})}
        assert used <= own | set(env) | given_by_github, step["name"]


@every
def test_make_targets_and_paths_exist(workflow: Workflow) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for script in scripts(workflow) for target in re.findall(r"^make ([a-z-]+)$", script, re.MULTILINE)}
    assert named <= targets
    for _, step in workflow.steps():
        file = step.get("with", {}).get("file", "")
        matrix = workflow.jobs["image"]["strategy"]["matrix"]["name"] if "matrix.name" in file else [""]
        for name in matrix:
            path = EXPRESSION.sub(name, file)
            assert not path or (ROOT / path).is_file(), path


def test_dependabot_is_asked_only_for_what_it_can_update() -> None:
    content = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())
    assert [update["package-ecosystem"] for update in content["updates"]] == ["github-actions"]


@every
def test_commands_would_be_taken(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://ml-pipeline:8888")
    known: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *arguments in commands(workflow):
        if name == "--version":
            continue
        context = known[name].make_context(name, list(arguments))
        if name == "submit":
            allowed = PIPELINES["distil_and_evaluate"].component_spec.inputs
            assert {text.partition("=")[0] for text in context.params["set_"]} <= set(allowed)


def test_commands_are_found() -> None:
    assert [[words[0] for words in commands(WORKFLOWS[name])] for name in ("retrain", "release", "test")] == [
        ["compile", "submit", "approve", "promote"],
        ["--version", "compile", "compile", "profile-images"],
        [],
    ]


def test_a_called_workflow_gets_the_rights_that_its_jobs_want() -> None:
    wanted: dict[str, str] = {}
    for job in WORKFLOWS["images"].jobs.values():
        wanted |= job["permissions"]
    assert WORKFLOWS["release"].jobs["images"]["permissions"] == wanted


def test_every_pipeline_and_every_overlay_is_released() -> None:
    (line,) = re.findall(r"for pipeline in (.*); do", WORKFLOWS["release"].script("Compile each pipeline with them"))
    assert line.split() == list(PIPELINES)
    (line,) = re.findall(r"for overlay in (.*); do", WORKFLOWS["release"].script("Render each overlay with them"))
    assert sorted(line.split()) == sorted(each.name for each in (ROOT / "infra" / "overlays").iterdir())


@pytest.mark.parametrize("name", ["images", "release"])
def test_what_is_released_is_built_from_hashed_pins(name: str) -> None:
    text = "\n".join(scripts(WORKFLOWS[name])).replace("\\\n", " ")
    installs = re.findall(r"^.*pip install (.*)$", text, re.MULTILINE)
    assert installs
    for options in installs:
        if "--no-index" in options:
            assert "--no-deps" in options
        else:
            (file,) = re.findall(r"--require-hashes --requirement (\S+)$", options)
            assert (ROOT / file.replace("release/", "images/trigger/")).is_file()
    # Nothing else fetches packages.
    assert "make " not in text
    assert all("--no-deps --no-build-isolation" in line for line in re.findall(r"pip wheel (.*)", text))


def test_only_the_job_that_asks_for_a_change_may_make_one() -> None:
    for name in ("release", "dependencies"):
        jobs = WORKFLOWS[name].jobs
        asks = [job for job, content in jobs.items() if "pull-requests" in content["permissions"]]
        assert asks == ["propose"]
        assert jobs["propose"]["permissions"] == {"contents": "write", "pull-requests": "write"}


def test_a_retraining_waits_for_reviewers_only_where_the_gate_asks_for_an_approval() -> None:
    jobs = WORKFLOWS["retrain"].jobs
    waiting = [name for name, job in jobs.items() if job.get("environment") == "promotion"]
    assert waiting == ["approval"]
    assert jobs["approval"]["if"] == "needs.retrain.outputs.verdict == 'awaiting'"
    # Without a condition of its own, a job runs only where those that it needs succeeded.
    assert "approval" in jobs["promote"]["needs"]
    assert "if" not in jobs["promote"]
    assert jobs["refused"]["if"].startswith("failure() && ")
    assert "concurrency" in jobs["retrain"]


def test_the_page_names_every_variable_and_secret() -> None:
    text = "".join(workflow.text for workflow in WORKFLOWS.values())
    used = set(re.findall(r"\b((?:vars|secrets)\.\w+)", text))
    page = (ROOT / "docs" / "ci.md").read_text()
    assert set(re.findall(r"^\| `((?:vars|secrets)\.\w+)` \|", page, re.MULTILINE)) == used
