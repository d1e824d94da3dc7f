"""A server of this machine: started in the background, known by its process ever after, and ended by that."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.parsing import read_object

HOST = "127.0.0.1"
"""The loopback address: nothing outside this machine reaches the servers."""
# Below the range from which the system takes ports for outgoing connections.
_RANGE = range(10_000, 22_000)


def free_port(*, above: int = 0) -> int:
    """A port that is free now, and so is the one `above` higher where that is given.

    Another process may take it before a server does; the server then ends at once, and another one is tried.
    """
    while True:
        port = secrets.choice(_RANGE)
        if is_free(port) and (not above or is_free(port + above)):
            return port


def is_free(port: int) -> bool:
    """Whether a server can listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that linger are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


STATE = "state.json"
"""Ports, keys and the process of a server, in its folder; only its owner may read it."""
STARTS = 5
"""How often a start is tried: another process may take a port that was free a moment before."""
_POLL_S = 0.05
_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700
_PASSABLE = 0o711  # another user may go through, and see nothing


class LocalServer(ABC):
    """One server with ports, keys and data of its own, in a folder that belongs to it.

    What was started is found again by another process that names the same folder. Started again, it has the same ports,
    keys and data.
    """

    NAME = ""
    """What it is called in messages."""
    END = signal.SIGTERM
    """What asks it to end."""
    PATIENCE_S = 60.0
    """How long a start or an end may take: the machine may be busy."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: of the server; made where there is none.
        """
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(_PRIVATE_FOLDER if self.runs_as() is None else _PASSABLE)
        self.state: dict[str, Any] = {}
        if (self.folder / STATE).is_file():
            self.state = read_object(self.folder / STATE, "end the server by its process, and delete the file")
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def choose_ports(self) -> dict[str, int]:
        """Free ports by what they are for."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Make what must be there before the first start; by default nothing."""

    def environment(self) -> dict[str, str]:
        """The whole environment of the server: nothing of the user's own settings or credentials is read."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}

    def runs_as(self) -> str | None:
        """The user that the server runs as; None for this process's own."""
        return None

    @property
    def port(self) -> int:
        """The port that clients take."""
        return int(next(iter(self.state["ports"].values())))

    @property
    def pid(self) -> int:
        """Of the running server.

        Raises:
            SidlsgError: it does not run.
        """
        found = self._process()
        if found is None:
            raise SidlsgError(f"{self.NAME} does not run; start it")
        return int(found.pid)

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process() is not None

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it serves.

        Raises:
            SidlsgError: it does not come up; its last lines are told. Or another process has its port.
        """
        if self._process() is not None:
            self._wait()
            return
        chosen = bool(self.state.get("ports"))
        taken = [port for port in self.state.get("ports", {}).values() if not is_free(port)]
        if taken:
            raise SidlsgError(f"{self.NAME} cannot listen on port {taken[0]}: another process does; end that one")
        for _ in range(STARTS):
            if not chosen:
                self.state["ports"] = self.choose_ports()
            self.prepare()
            self._launch()
            if self._wait():
                return
            self.kill()
        said = "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-12:])
        raise SidlsgError(f"{self.NAME} did not start; the end of {self.folder / 'log'}:\n{said}")

    def stop(self) -> None:
        """Ask the server to end and wait until it has; one that does not is killed."""
        found = self._process()
        if found is not None:
            found.send_signal(self.END)
            with contextlib.suppress(psutil.TimeoutExpired):
                found.wait(self.PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """End the server and all that it started, as a power cut would."""
        found = self._process()
        if found is not None:
            family = [found, *found.children(recursive=True)]
            for process in family:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(family, timeout=self.PATIENCE_S)
        if self._child is not None:
            self._child.wait(self.PATIENCE_S)
            self._child = None
        self.clean_up()
        self.state.pop("process", None)
        self.save()

    def clean_up(self) -> None:  # noqa: B027 - most servers leave nothing
        """Delete what an ended server leaves behind; by default nothing."""

    def save(self) -> None:
        """Keep the state."""
        fresh = self.folder / f".{STATE}"
        fresh.touch(mode=_PRIVATE)
        fresh.write_text(json.dumps(self.state, indent=2) + "\n")
        fresh.replace(self.folder / STATE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            user = self.runs_as()
            self._child = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                # Ctrl-C in the terminal that started it is not for it.
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        created = psutil.Process(self._child.pid).create_time()
        self.state["process"] = {"pid": self._child.pid, "created": created}
        self.save()

    def _wait(self) -> bool:
        until = time.monotonic() + self.PATIENCE_S
        while time.monotonic() < until and self._process() is not None:
            if self.is_ready():
                return True
            time.sleep(_POLL_S)
        return False

    def _process(self) -> psutil.Process | None:
        """The server's process, and not another one that got its number later."""
        known = self.state.get("process")
        if known is None or (self._child is not None and self._child.poll() is not None):
            return None
        try:
            found = psutil.Process(known["pid"])
            alive = found.create_time() == known["created"] and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if alive else None
