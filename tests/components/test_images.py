import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sidlsg import __version__
from sidlsg.components.images import LOCAL_IMAGE, VARIABLE, image
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import IMAGE_VARIABLE, RESTART_WAIT_VARIABLE, RESTARTS_VARIABLE

DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_without_the_variable_the_image_is_of_this_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert image() == LOCAL_IMAGE
    assert __version__ in LOCAL_IMAGE


@pytest.mark.parametrize("given", [f"ghcr.io/me/sidlsg@{DIGEST}", DIGEST])
def test_an_image_by_digest_is_taken(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    assert image() == given


@pytest.mark.parametrize("given", ["sidlsg:latest", "sidlsg", f"sidlsg@{DIGEST[:-1]}", f"a b@{DIGEST}"])
def test_a_name_that_can_move_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(InputError, match="by digest"):
        image()


def test_a_trained_student_knows_its_image_and_how_often_it_may_restart(tmp_path: Path) -> None:
    given = f"ghcr.io/me/sidlsg@{DIGEST}"
    for pipeline in ("distil_and_evaluate", "sweep"):
        file = tmp_path / f"{pipeline}.yaml"
        # A separate process: the variable is read while the components are imported.
        command = [sys.executable, "-m", "sidlsg", "compile", "--pipeline", pipeline, "--output", str(file)]
        subprocess.run(command, check=True, env={**os.environ, VARIABLE: given})
        executors = next(yaml.safe_load_all(file.read_text()))["deploymentSpec"]["executors"]
        container = executors["exec-distil"]["container"]
        assert container["image"] == given
        environment = {each["name"]: each["value"] for each in container["env"]}
        assert environment == {IMAGE_VARIABLE: given, RESTARTS_VARIABLE: "10", RESTART_WAIT_VARIABLE: "5"}
        assert executors["exec-encode"]["container"]["env"] == [{"name": IMAGE_VARIABLE, "value": given}]
