"""The configuration file: where it is found, what wins over it, and what it may not set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.cli.configuration import read_configuration

Run = Callable[..., tuple[int, str, str]]

FILE = """
[options]
tracking_uri = "sqlite:////file/mlflow.db"
prices = { distil = 2.5 }

[recipes.tiny]
batch = 96

[environment]
AWS_ENDPOINT_URL = "http://file:9000"
"""


def write(path: Path, text: str = FILE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert read_configuration(below).path is None
    upper = write(tmp_path / "sidlsg.toml")
    assert read_configuration(below).path == upper
    project = write(tmp_path / "a" / "pyproject.toml", "[tool.sidlsg.options]\nmodel_name = 'mine'\n")
    found = read_configuration(below)
    assert (found.path, found.options) == (project, {"model_name": "mine"})
    write(project, "[tool.other]\n")
    assert read_configuration(below).path == upper


def test_a_variable_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "sidlsg.toml")
    monkeypatch.setenv("SIDLSG_CONFIG", str(write(tmp_path / "other.toml", "")))
    assert read_configuration(tmp_path).options == {}


def test_an_option_wins_over_the_environment_and_that_over_the_file(
    sidlsg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sidlsg.toml", '[options]\ntracking_uri = "file://file"\n')
    rollback = ("rollback", "model", "--reason", "x")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "'file://file'" in sidlsg(*rollback)[2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file://environment")
    assert "'file://environment'" in sidlsg(*rollback)[2]
    code, _, errors = sidlsg(*rollback, "--tracking-uri", "file://option")
    assert code == 2
    assert "'file://option'" in errors


def test_a_recipes_changes_are_those_of_the_file_then_of_the_command(
    sidlsg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sidlsg.toml")
    asked: list[dict[str, object]] = []

    def changed(_: str, changes: str) -> None:
        asked.append(json.loads(changes))
        if len(asked) % 2 == 0:  # the first time the file itself is checked
            raise KeyboardInterrupt

    monkeypatch.setattr("sidlsg.distil.recipes.recipe_with_changes", changed)
    sidlsg("estimate", "--set", "micro_batch=8")
    assert asked[-1] == {"batch": 96, "micro_batch": 8}
    sidlsg("run", "--set", "batch=48")
    assert asked[-1]["batch"] == 48


def test_the_environment_keeps_what_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "sidlsg.toml")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://mine:9000")
    found = read_configuration(tmp_path)
    found.apply()
    import os

    assert os.environ["AWS_ENDPOINT_URL"] == "http://mine:9000"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    found.apply()
    assert os.environ["AWS_ENDPOINT_URL"] == "http://file:9000"
    assert json.loads(found.options["prices"]) == {"distil": 2.5}


def test_a_command_names_the_file_that_it_used(sidlsg: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "sidlsg.toml", "")
    assert f"note: configuration: {path}" in sidlsg("recipes")[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tracking_uri = 'x'", "tracking_uri stands alone; put it below [options]"),
        ("more = 1\n[options]\nprice = 'two'", "'more' is not allowed"),
        ("more = 1\n[options]\nprice = 'two'", "options.price is 'two'; give a number"),
        ("[options]\nprice = -1", "options.price: "),
        ("[options]\nprices = { distill = 2 }", "options.prices: "),
        ("[recipes.tiny]\nbatchh = 2", "recipes.tiny: "),
        ("[recipes.tinny]\nbatch = 2", "recipes.tinny: recipe 'tinny' is unknown"),
        ("[environment]\nAWS_SECRET_ACCESS_KEY = 'x'", "environment.AWS_SECRET_ACCESS_KEY looks like a secret"),
        ("[option]", "'option' is not allowed (did you mean 'options'?)"),
        ("[options]\ntracking_url = 'x'", "options.tracking_url is not allowed (did you mean 'tracking_uri'?)"),
        ("[options]\nprice = 'two'", "options.price is 'two'; give a number"),
        ("[options]\noutput = 'x'", "options.output is not allowed"),
        ("options = 3", "options is not a table"),
        ("[recipes]\ntiny = 3", "recipes.tiny: "),
        ("[environment]\nLD_PRELOAD = 'x'", "environment.LD_PRELOAD: a file sets variables that begin with"),
        ("[environment]\nAWS_PROFILE = 3", "environment.AWS_PROFILE is 3; give a text"),
        ("[", "is not TOML"),
    ],
)
def test_a_file_with_a_mistake_is_refused(text: str, said: str, sidlsg: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "sidlsg.toml", text)
    code, out, errors = sidlsg("recipes")
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: {path}")
    assert said in errors


def test_a_file_that_is_named_and_not_there_is_refused(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDLSG_CONFIG", "nowhere.toml")
    code, _, errors = sidlsg("recipes")
    assert code == 2
    assert "nowhere.toml" in errors
