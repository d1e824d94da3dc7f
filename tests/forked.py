"""The command line in forks of one process that has its libraries: what `subprocess` does, in milliseconds.

A fresh process imports torch, diffusers and MLflow for seconds. These are processes all the same, with their own pid,
environment, folder and output; a test that is about the start of a program runs a real one.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from sidlsg.run.forks import Child, ForkServer, Job

IMPORTS = ("sidlsg.cli", "sidlsg.distil.stage", "sidlsg.evaluate.stage", "sidlsg.registry.register")


@cache
def server() -> ForkServer:
    """This process' server, started when it is first asked for."""
    started = ForkServer()
    atexit.register(started.close)
    return started


class Program:
    """A running command, with the part of `subprocess.Popen`'s interface that tests use."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        target: str = "sidlsg.cli:main",
        arguments: Sequence[Any] = (),
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
    ) -> None:
        """Args:
        words: of the command line, without the program's name.
        target: what runs them, if not the command line.
        arguments: of the target.
        cwd: the folder; this process' by default.
        env: the environment; this process' by default.
        stdout: an open file, `PIPE`, or None for nowhere.
        stderr: the same, or `STDOUT`.
        """
        self.stdout: IO[str] | None = None
        out = self._descriptor(stdout)
        err = out if stderr == subprocess.STDOUT else self._descriptor(stderr)
        job = Job(
            target=target,
            arguments=arguments,
            program=["sidlsg", *words],
            imports=IMPORTS,
            environment=dict(os.environ if env is None else env),
            folder=str(Path.cwd() if cwd is None else cwd),
        )
        self._child: Child = server().start(job, out, err)
        for descriptor in {out, err}:
            os.close(descriptor)
        self.pid = self._child.pid
        self.returncode: int | None = None

    def _descriptor(self, given: IO[Any] | int | None) -> int:
        if given == subprocess.PIPE:
            reader, writer = os.pipe()
            self.stdout = os.fdopen(reader)
            return writer
        if given is None or isinstance(given, int):
            return os.open(os.devnull, os.O_WRONLY)
        return os.dup(given.fileno())

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None and self._child.has_ended():
            self.returncode = self._child.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended.

        Raises:
            TimeoutError: it goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"process {self.pid} goes on after {timeout} s")
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sign: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sign)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()


def run(words: Sequence[str], timeout: float | None = None, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and give its code and output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        program = Program(words, stdout=out, stderr=err, **given)
        try:
            code = program.wait(timeout)
        finally:
            program.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(words), code, out.read(), err.read())
