"""The page from the demo to a served champion, with the demo itself, as it is printed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidlsg.registry.server.process import free_ports

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
    for port, free in zip((5000, 5001), free_ports(2), strict=True):
        script = re.sub(rf"\b{port}\b", str(free), script)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    for name in ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS"):  # as in a new shell
        environment.pop(name, None)
    log = tmp_path / "log"
    with log.open("w") as file:
        # A session of its own, to end the page's servers wherever it stops; they would hold a pipe open.
        shell = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
    printed = log.read_text()
    assert code == 0, printed[-5000:]
    assert printed.count("exit code 3\n") == 1  # the gate's
    assert printed.count("exit code 2\n") == 1  # a version with an alias stays
    assert "sidlsg-tiny is in order" in printed
    assert (tmp_path / "image.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "runs" / "second" / "student").exists()
