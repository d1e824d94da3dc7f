"""The page from the demo to a served champion, with the demo itself, as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sidlsg.registry.server.process import free_port

PAGE = Path(__file__).parents[2] / "docs" / "from-the-demo.md"
BIN = Path(sys.executable).parent
HERE = {"make demo": "sidlsg run", ". .venv/bin/activate": "true"}
"""Commands of a checkout, and what they do in a folder without one."""


@pytest.mark.long
def test_every_command_of_the_page_in_order(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    for command, instead in HERE.items():
        assert command in script
        script = script.replace(command, instead)
    pages = free_port()
    for port, free in ((5000, pages), (5001, free_port(above=pages))):
        script = re.sub(rf"\b{port}\b", str(free), script)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    assert done.stdout.count("exit code 3") == 1  # the gate's
    assert done.stdout.count("exit code 2") == 1  # a version with an alias stays
    assert done.stdout.splitlines()[-1] == "sidlsg-tiny is in order"
    assert (tmp_path / "image.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "runs" / "second" / "student").exists()
