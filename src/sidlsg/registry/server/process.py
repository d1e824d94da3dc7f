"""A server of this machine: started in the background, found again by its process, and ended."""

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
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.parsing import read_object

HOST = "127.0.0.1"
"""The loopback address: nothing outside this machine reaches the servers."""
STATE = "state.json"
"""Ports, keys and process of a server, in its folder; only its owner may read it."""
STARTS = 5
"""Attempts to start: another process may take a port that was free a moment before."""
_PORTS = range(10_000, 22_000)  # below the range from which the system takes ports for outgoing connections
_POLL_S = 0.05
_PRIVATE_FOLDER = 0o700
_PASSABLE = 0o711  # other users may pass through, but list nothing


def free_port() -> int:
    """A port that is free now; another process may take it before a server does."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports that are free now."""
    shuffled = secrets.SystemRandom().sample(_PORTS, len(_PORTS))
    return list(islice(filter(is_free, shuffled), count))


def is_free(port: int) -> bool:
    """Whether a server can listen there now."""
    with socket.socket() as probe:
        # As servers do: lingering connections of an earlier server do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def write_private(file: Path, data: bytes) -> None:
    """Write a file atomically that only its owner can read at any moment."""
    fresh = file.with_name(f".{file.name}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_bytes(data)
    fresh.replace(file)


class LocalServer(ABC):
    """One server with its own ports, keys and data, in a folder that belongs to it.

    Another process finds a started server again by the folder. Started again, it has the same ports, keys and data.
    """

    NAME = ""
    """In messages."""
    PORTS: tuple[str, ...] = ("port",)
    """What its ports are for, that of the clients first."""
    END = signal.SIGTERM
    """Asks it to end."""
    PATIENCE_S = 60.0
    """Seconds for a start or an end: the machine may be busy."""

    def __init__(self, folder: Path) -> None:
        """Take the server's folder, created if there is none."""
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(_PRIVATE_FOLDER if self.runs_as() is None else _PASSABLE)
        self.state: dict[str, Any] = {}
        if (self.folder / STATE).is_file():
            self.state = read_object(self.folder / STATE, "end the server by its process, and delete the file")
        if missing := {name: key for name, key in self.new_keys().items() if name not in self.state}:
            self.state |= missing
            self.save()
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves."""

    def new_keys(self) -> dict[str, str]:
        """New keys and passwords, by their names in the state; by default none."""
        return {}

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Create what must exist before a start; by default nothing."""

    def clean_up(self) -> None:  # noqa: B027 - most servers leave nothing
        """Delete what an ended server leaves behind; by default nothing."""

    def environment(self) -> dict[str, str]:
        """The whole environment of the server, without the user's own settings or credentials."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}

    def runs_as(self) -> str | None:
        """The user that the server runs as; None for this process's own."""
        return None

    def as_user(self) -> dict[str, Any]:
        """Arguments of `subprocess` for that user."""
        user = self.runs_as()
        return {"user": user, "group": user, "extra_groups": None if user is None else []}

    @property
    def port(self) -> int:
        """The clients' port."""
        return int(self.state["ports"][self.PORTS[0]])

    @property
    def pid(self) -> int:
        """Of the running server; SidlsgError if it does not run."""
        found = self._process()
        if found is None:
            raise SidlsgError(f"{self.NAME} does not run; start it")
        return int(found.pid)

    @property
    def is_running(self) -> bool:
        """Whether its process exists."""
        return self._process() is not None

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it serves.

        Raises:
            SidlsgError: it does not start, with its last lines; or another process has its port.
        """
        if self.is_running:
            self._wait()
            return
        chosen = bool(self.state.get("ports"))
        taken = [port for port in self.state.get("ports", {}).values() if not is_free(port)]
        if taken:
            raise SidlsgError(f"{self.NAME} cannot listen on port {taken[0]}: another process does; end that one")
        for _ in range(STARTS):
            if not chosen:
                # Where another process takes one first, the server ends at once, and other ports are tried.
                self.state["ports"] = dict(zip(self.PORTS, free_ports(len(self.PORTS)), strict=True))
            self.prepare()
            self._launch()
            if self._wait():
                return
            self.kill()
        lines = "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-12:])
        raise SidlsgError(f"{self.NAME} did not start; the end of {self.folder / 'log'}:\n{lines}")

    def stop(self) -> None:
        """Ask the server to end, wait until it has, and kill it if it does not."""
        found = self._process()
        if found is not None:
            found.send_signal(self.END)
            with contextlib.suppress(psutil.TimeoutExpired):
                found.wait(self.PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """Kill the server and all its child processes, as a power cut would."""
        found = self._process()
        if found is not None:
            family = [found, *found.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=self.PATIENCE_S)
        if self._child is not None:
            self._child.wait(self.PATIENCE_S)
            self._child = None
        self.clean_up()
        self.state.pop("process", None)
        self.save()

    def save(self) -> None:
        """Save the state."""
        write_private(self.folder / STATE, (json.dumps(self.state, indent=2) + "\n").encode())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                # Ctrl-C in the terminal that started it must not reach it.
                start_new_session=True,
                **self.as_user(),
            )
        created = psutil.Process(self._child.pid).create_time()
        self.state["process"] = {"pid": self._child.pid, "created": created}
        self.save()

    def _wait(self) -> bool:
        until = time.monotonic() + self.PATIENCE_S
        while time.monotonic() < until and self.is_running:
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
