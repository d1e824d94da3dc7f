"""What scripts read: JSON where it is asked for, and nothing but errors with --quiet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.distil.recipes import RECIPES
from sidlsg.evaluate.published import PROTOCOLS

Run = Callable[..., tuple[int, str, str]]
FORCING = ("FORCE_COLOR", "NO_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERM")
CAPTION = "a small red circle on a blue background"


def test_recipes_and_protocols_as_json(sidlsg: Run) -> None:
    recipes = json.loads(sidlsg("recipes", "--json")[1])
    assert [recipe["name"] for recipe in recipes] == list(RECIPES)
    protocols = json.loads(sidlsg("protocols", "--json")[1])
    assert [protocol["name"] for protocol in protocols] == list(PROTOCOLS)
    assert all(set(protocol["files"].values()) == {"not named in weights.toml"} for protocol in protocols)


def test_an_estimate_as_json(sidlsg: Run, one_level: Path) -> None:
    given = ("--gpu", "h100", "--recipe", "tiny_real", "--set", "steps=4", "--price", "2", "--json")
    code, out, errors = sidlsg("estimate", "--teacher", str(one_level), *given)
    assert (code, errors) == (0, "")
    found = json.loads(out)
    assert found["fits"] is True
    assert found["bytes"]["together"] < found["bytes"]["device"]
    disk = {"checkpoints", "million_embeddings", "million_real_latents", "thousand_images"}
    assert set(found["disk_bytes"]) == disk
    assert found["disk_bytes"]["million_real_latents"] == 10**6 * 4 * 8 * 8 * 2
    assert 0 < found["host_bytes"] < found["disk_bytes"]["checkpoints"]
    assert found["cost"] == pytest.approx(2 * found["gpu_hours"])
    assert found["sampling_passes"] == 4


def test_generated_images_as_json_and_in_silence(sidlsg: Run, tiny_student: Path, tmp_path: Path) -> None:
    given = (
        "generate",
        str(tiny_student),
        CAPTION,
        "--count",
        "2",
        "--seed",
        "5",
        "--output",
        str(tmp_path / "images"),
    )
    rows = [json.loads(line) for line in sidlsg(*given, "--json")[1].splitlines()]
    assert [(row["seed"], row["prompt"]) for row in rows] == [(5, CAPTION), (6, CAPTION)]
    assert all(Path(row["file"]).is_file() for row in rows)
    assert sidlsg(*given, "--quiet") == (0, "", "")
    assert sidlsg(*given, "--quiet", "--json")[0] == 2
    # Silence ends with the command.
    assert sidlsg("--version")[1]


def test_errors_are_printed_with_quiet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sidlsg", "curate", "--source", "none.parquet", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_notes_are_printed_without_quiet_alone(sidlsg: Run, tiny_student: Path, tmp_path: Path) -> None:
    given = ("register", "--student", str(tiny_student), "--name", "m", "--tracking-uri")
    assert sidlsg(*given, "sqlite:///a/mlflow.db", "--quiet") == (0, "", "")
    assert sidlsg(*given, "sqlite:///b/mlflow.db") == (
        0,
        "version 1 of m is registered\n",
        f"note: {tmp_path}/b/mlflow.db is a new MLflow store\n",
    )


@pytest.mark.parametrize(
    "variable", ["TERM=xterm-256color", "TERM=dumb", "NO_COLOR=1", "GITHUB_ACTIONS=1", "PY_COLORS=1"]
)
def test_piped_output_is_plain(variable: str, tmp_path: Path) -> None:
    """No colours, no bars: a log or another program reads it."""
    name, _, value = variable.partition("=")
    environment = {key: each for key, each in os.environ.items() if key not in FORCING} | {name: value}
    for words in (["--help"], ["run", "--help"], ["recipes"], ["nonsense"]):
        command = [sys.executable, "-m", "sidlsg", *words]
        done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == (2 if words == ["nonsense"] else 0)
        printed = done.stdout + done.stderr
        assert printed
        assert b"\x1b" not in printed
        assert b"\r" not in printed


def test_forced_colours_reach_texts_and_no_json(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" in sidlsg("recipes", "--help")[1]
    assert "\x1b" not in "".join(map(str, sidlsg("recipes", "--json")))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_exists(shell: str, sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = sidlsg("--show-completion", shell)
    assert code == 0
    assert "sidlsg" in out
