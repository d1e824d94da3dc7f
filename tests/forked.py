"""The command line in forks of one process that has its libraries: what `subprocess` does, in milliseconds.

A fresh process imports torch, diffusers and MLflow for seconds. These are processes all the same, with their own pid,
environment, folder and output; a test that is about the start of a program runs a real one. A fork has neither the
test's monkeypatches nor what libraries read from the environment while they are imported.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, Any

from sidlsg.cli import app as cli
from sidlsg.kubeflow.local.forks import ForkServer, Job, StageProcess
from sidlsg.registry.server.process import free_port

IMPORTS = (
    "mlflow_schema",
    "sidlsg.cli.app",
    "sidlsg.stages.distil",
    "sidlsg.stages.evaluate",
    "sidlsg.prompts.curation",
    "sidlsg.registry.registration",
)
_PATH = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
ENVIRONMENT = {**os.environ, "PYTHONPATH": _PATH, "PYTHONUNBUFFERED": "1"}
"""The server's: as it was before any test changed it. Children find this module, and write each line at once."""


@cache
def server() -> ForkServer:
    """This process' server, started when it is first asked for."""
    started = ForkServer(ENVIRONMENT)
    atexit.register(started.close)
    return started


class Program:
    """A running command, with the part of `subprocess.Popen`'s interface that tests use."""

    def __init__(
        self,
        words: Sequence[str] = (),
        *,
        file: Path | None = None,
        code: str = "",
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        start_new_session: bool = False,
        imports: Sequence[str] = (),
    ) -> None:
        """Args:
        words: of the command line, without the program's name.
        file: the program, as in `python FILE`; `sidlsg` by default.
        code: the program, as in `python -c CODE`.
        cwd: the folder; this process' by default.
        env: the environment; this process' by default.
        stdout: an open file, `PIPE`, or None for nowhere.
        stderr: the same, or `STDOUT`.
        start_new_session: as `Popen` has it.
        imports: modules that later programs need too.
        """
        program = [str(file) if file else "-c" if code else "sidlsg", *words]
        job = Job(
            target="forked:run_program",
            arguments=[program, code, start_new_session],
            imports=[*IMPORTS, *imports],
            environment=dict(os.environ if env is None else env),
            folder=str(Path.cwd() if cwd is None else cwd),
        )
        out, self.stdout = _opened(stdout)
        err, self.stderr = (os.dup(out), None) if stderr == subprocess.STDOUT else _opened(stderr)
        self._child: StageProcess = server().start(job, out, err)
        for descriptor in (out, err):
            os.close(descriptor)
        self.pid = self._child.pid
        assert self.pid, "the fork server has ended"
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None and self._child.has_ended():
            self.returncode = self._child.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended.

        Raises:
            TimeoutExpired: it still runs.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if timeout is not None and until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
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
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()


def run(
    words: Sequence[str] = (), *, timeout: float | None = None, check: bool = False, **given: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and give its code and output."""
    (done,) = run_all(words, [{}], timeout, **given)
    if check:
        done.check_returncode()
    return done


def ranks(processes: int) -> list[dict[str, str]]:
    """The variables that torchrun sets for each of so many processes on one machine; none for a single process."""
    if processes == 1:
        return [{}]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def run_all(
    words: Sequence[str],
    changes: Sequence[Mapping[str, str]],
    timeout: float | None = None,
    *,
    env: Mapping[str, str] | None = None,
    **given: Any,
) -> list[subprocess.CompletedProcess[str]]:
    """Run a command side by side once for each change of the environment; the first that fails ends the others."""
    until = None if timeout is None else time.monotonic() + timeout
    with ExitStack() as files:
        outputs = [[files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)] for _ in changes]
        programs: list[Program] = []
        try:
            for change, (out, err) in zip(changes, outputs, strict=True):
                environment = {**(os.environ if env is None else env), **change}
                programs.append(Program(words, env=environment, stdout=out, stderr=err, **given))
            while None in (codes := [program.poll() for program in programs]) and not any(codes):
                if timeout is not None and until is not None and time.monotonic() > until:
                    raise subprocess.TimeoutExpired(list(words), timeout)
                time.sleep(0.01)
        finally:
            for program in programs:
                program.kill()
        return [
            subprocess.CompletedProcess(list(words), program.wait(), *map(_whole, output))
            for program, output in zip(programs, outputs, strict=True)
        ]


def run_program(program: list[str], code: str, session: bool) -> None:
    """In a child: what `sidlsg`, `python FILE` or `python -c CODE` does."""
    if session:
        os.setsid()
    sys.argv = program
    # A shell's background job ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if program[0] == "sidlsg":
        cli.main()
        return
    try:
        if code:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_path(program[0], run_name="__main__")
    except KeyboardInterrupt:  # ends by the signal, as the interpreter does
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _whole(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _opened(given: IO[Any] | int | None) -> tuple[int, IO[str] | None]:
    """A descriptor to write to, and for a pipe the end to read from."""
    if given == subprocess.PIPE:
        reader, writer = os.pipe()
        return writer, os.fdopen(reader)
    if given is None or isinstance(given, int):
        return os.open(os.devnull, os.O_WRONLY), None
    return os.dup(given.fileno()), None
