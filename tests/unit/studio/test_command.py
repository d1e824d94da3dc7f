"""What `sidlsg studio` refuses before it serves anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.registry.server.process import free_port

Run = Callable[..., tuple[int, str, str]]


def test_a_missing_extra_is_named(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, said = sidlsg("studio", "runs/demo")
    assert code == 2
    assert "gradio is not installed, which makes the page; pip install 'sidlsg[studio]'" in said


def test_what_is_no_student_is_one_line(sidlsg: Run) -> None:
    code, _, said = sidlsg("studio", "runs/none", "--port", "17861")
    assert code == 2
    assert said.startswith("error: there is no folder runs/none; give the folder of a run or of a student")


@pytest.mark.long
def test_a_signal_to_end_removes_what_was_downloaded(registry: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sidlsg", "studio", "models:/tiny@champion", "--port", str(free_port())]
    environment = os.environ | {"TMPDIR": str(tmp_path), "MLFLOW_TRACKING_URI": registry}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as server:
        assert "is on http" in next(server.stdout)
        assert list(tmp_path.glob("sidlsg-studio-*/*"))
        server.terminate()
    assert server.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.glob("sidlsg-studio-*")) == []


def test_another_address_without_a_token_is_refused(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDLSG_STUDIO_TOKEN", raising=False)
    code, _, said = sidlsg("studio", "runs/demo", "--address", "0.0.0.0")
    assert code == 2
    assert "give --secret-file, or set SIDLSG_STUDIO_TOKEN" in said
