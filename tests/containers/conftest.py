import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.daemon import DOCKER, Daemon

ROOT = Path(__file__).parents[2]
CPU = ("curate", "train", "evaluate", "serve", "trigger")


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="sidlsg-"))
    daemon = Daemon(folder)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def images(daemon: Daemon) -> dict[str, str]:
    """The real Dockerfiles, built on the stand-in; their ids by name."""
    constraint = ["--constraint", str(ROOT / "constraints.txt")]
    wheels = ROOT / "images" / "wheels"
    before = set(wheels.glob("*.whl"))
    if not list(wheels.glob("torch-*.whl")):
        # The build that is installed here, be it for CPUs or not.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
        subprocess.run([*command, *constraint, "torch"], check=True, timeout=900)
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    environment = {
        **os.environ,
        "DOCKER": f"{DOCKER} -H {daemon.socket}",
        "BASE": daemon.base(),
        "REQUIREMENTS": "requirements.txt",
        "CERTIFICATE": str(authorities) if authorities.exists() else "",
        "BUILD_OPTIONS": "--network host --progress plain",
        "PYTHON": sys.executable,
    }
    try:
        done = subprocess.run(
            [str(ROOT / "images" / "build.sh"), *CPU], env=environment, capture_output=True, text=True, timeout=1800
        )
    finally:
        # Images for real use would take it, too.
        for wheel in set(wheels.glob("*.whl")) - before:
            wheel.unlink()
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    tags = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("built ")}
    found = {tag.partition(":")[0].removeprefix("sidlsg-"): tag for tag in tags}
    assert set(found) == set(CPU)
    daemon.keep(tags)
    return {name: daemon.run("inspect", "--format", "{{.Id}}", tag).stdout.strip() for name, tag in found.items()}
