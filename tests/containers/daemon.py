"""A Docker daemon of the tests' own, with a base image that needs no registry."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

CACHE = Path(os.environ.get("SIDLSG_CONTAINER_CACHE", "/var/cache/sidlsg-containers"))
"""Layers and the base stay here for the next time; both are found by what they are made of."""
DOCKER = "/usr/bin/docker"
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
STAND_IN = "sidlsg-stand-in"
PATIENCE_S = 60.0
KEPT = "15GB"
"""Of what builds may use again."""


class Daemon:
    """`dockerd` in a folder of its own, ended by its process id."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: for its socket, its log and what runs; short, for a socket's path is.
        """
        self.folder = folder
        self.socket = f"unix://{folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        missing = [name for name in ("dockerd", "mmdebstrap") if shutil.which(name) is None]
        assert not missing, f"{', '.join(missing)} is not there; run `make container-tools` as root"
        (CACHE / "docker").mkdir(parents=True, exist_ok=True)
        command = ["dockerd", "--data-root", str(CACHE / "docker"), "--exec-root", str(self.folder / "exec")]
        command += ["--pidfile", str(self.folder / "pid"), "-H", self.socket, "--default-ulimit", "nofile=16384:16384"]
        # Containers get no network, and builds the machine's own: neither needs a bridge.
        command += ["--iptables=false", "--bridge=none"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run([DOCKER, "-H", self.socket, "info"], capture_output=True).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "dockerd does not answer"
            time.sleep(0.5)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run one command of the client; a failure is told with what it printed."""
        done = subprocess.run([DOCKER, "-H", self.socket, *words], capture_output=True, text=True, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done  # type: ignore[no-any-return]

    def base(self) -> str:
        """The stand-in for Python's image: Debian's packages, as an image by the digest of how it is made."""
        recipe = ["--mode=root", "--variant=minbase", f"--include={PACKAGES}", SUITE]
        key = hashlib.sha256(" ".join(recipe).encode()).hexdigest()[:12]
        name = f"{STAND_IN}:{key}"
        if name not in self.tags():
            archive = CACHE / f"base-{key}.tar"
            if not archive.exists():
                partly = archive.with_suffix(".partly.tar")
                subprocess.run(["mmdebstrap", "--quiet", *recipe, str(partly)], check=True, timeout=900)
                partly.replace(archive)
            self.run("import", str(archive), name)
        return name

    def tags(self) -> set[str]:
        """This project's images and the stand-in, by name and tag; those without a tag are not among them."""
        listed = self.run("images", "--filter", "reference=sidlsg-*", "--format", "{{.Repository}}:{{.Tag}}")
        return set(listed.stdout.split())

    def keep(self, tags: set[str]) -> None:
        """Let images of other commits go, and of the builds' cache what was used longest ago."""
        others = {name for name in self.tags() - tags if not name.startswith(f"{STAND_IN}:")}
        if others:
            self.run("image", "rm", "--force", *others)
        self.run("builder", "prune", "--force", "--keep-storage", KEPT)
