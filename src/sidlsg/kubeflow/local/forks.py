"""A process that has imported the heavy libraries once and forks a child for each job.

A fresh Python process imports PyTorch, diffusers and MLflow for seconds; a fork starts in milliseconds. The server runs
nothing but imports, so a fork inherits no GPU context, connection or OpenMP threads. `multiprocessing`'s fork server
cannot import more modules after its start, and gives a child neither its own environment nor its own output.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.progress import emit

_GONE = "the process that starts stages has ended; run the same command again"
_LENGTH = 8
"""Bytes of the length that precedes a job's text."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a child runs."""

    target: str
    """`module:function`; the function's return value or SystemExit becomes the exit code."""
    arguments: Sequence[Any] = ()
    """JSON values."""
    imports: Sequence[str] = ()
    """Modules that the server imports first, for this and later children."""
    environment: Mapping[str, str]
    """The child's whole environment."""
    folder: str
    """The working directory."""


class StageProcess:
    """A running job."""

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        connection.close()
        self.pid = int(self._answers.readline() or 0)
        """0 if the server ended before it started the job."""
        self._code: int | None = None

    def has_ended(self) -> bool:
        """Whether `wait` would return at once."""
        return self._code is not None or bool(select.select([self._answers], [], [], 0)[0])

    def wait(self) -> int:
        """The exit code: negative for a signal, as in `subprocess`; 1 if it is unknown."""
        if self._code is None:
            self._code = int(self._answers.readline() or 1)
            self._answers.close()
        return self._code


class ForkServer:
    """Starts jobs as forks of one process. A context manager: the process ends with it."""

    def __init__(self, environment: Mapping[str, str] | None = None, stderr: IO[Any] | None = None) -> None:
        """Start the server.

        Args:
            environment: of the server, which `/proc` shows for its children too; this process' by default.
            stderr: receives warnings of imported libraries; this process' stderr by default.
        """
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sidlsg.kubeflow.local.forks", str(its.fileno())],
                pass_fds=[its.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        self._socket = ours
        self._lock = threading.Lock()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, job: Job, stdout: int, stderr: int) -> StageProcess:
        """Start a job. The caller closes its own copies of the file descriptors.

        Raises:
            SidlsgError: the server has ended.
        """
        ours, its = socket.socketpair()
        text = json.dumps(asdict(job)).encode()
        try:
            with its, self._lock:
                head = len(text).to_bytes(_LENGTH, "big")
                socket.send_fds(self._socket, [head], [stdout, stderr, its.fileno()])
                self._socket.sendall(text)
        except OSError as error:
            ours.close()
            raise SidlsgError(_GONE) from error
        child = StageProcess(ours)
        if not child.pid:
            raise SidlsgError(_GONE)
        return child

    def close(self) -> None:
        """End the server; running children continue."""
        self._socket.close()
        self._process.wait()


def main() -> None:
    """Serve until the other side closes its end; in a child, run the job."""
    job = _serve(socket.socket(fileno=int(sys.argv[1])))
    if job is not None:
        _run_and_exit(job)


def _serve(connection: socket.socket) -> Job | None:
    """Fork for each job. Returns the job in its process, and None in the server at its end."""
    # Keepers need no wait; Ctrl-C reaches the whole process group, and the parent ends the server.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH, 3)
        if not head:
            return None
        job = Job(**json.loads(connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)))
        for module in job.imports:
            # A failing import fails again in the job, whose output is read.
            with contextlib.suppress(BaseException):
                importlib.import_module(module)
        gc.freeze()  # otherwise a job's collector would copy every page
        if not os.fork():
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if pid := os.fork():
                _keep(pid, descriptors)
            signal.signal(signal.SIGINT, interrupted)
            for number, descriptor in enumerate(descriptors[:2], start=1):
                os.dup2(descriptor, number)
            for descriptor in descriptors:
                os.close(descriptor)
            return job
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(pid: int, descriptors: Sequence[int]) -> NoReturn:
    """Report a job's process id and exit code, in a separate fork: the server itself only waits for jobs."""
    # It ends with the job.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for descriptor in descriptors[:2]:
        os.close(descriptor)
    with contextlib.suppress(OSError), socket.socket(fileno=descriptors[2]) as answer:  # perhaps nobody waits for it
        answer.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        answer.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run_and_exit(job: Job) -> NoReturn:
    code: Any = 1
    try:
        code = _run(job)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        code = 1
    # What the interpreter does at its end, except to tear down the libraries, which takes seconds.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def _run(job: Job) -> Any:
    os.environ.clear()
    os.environ.update(job.environment)
    os.chdir(job.folder)
    module, _, name = job.target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function(*job.arguments)


def run_component(source: str, arguments: Sequence[str]) -> None:
    """Run a component by kfp's executor in this process, a fork; an error is reported before it is raised."""
    # Imported here: the environment decides how much of kfp loads.
    from kfp.dsl.executor_main import executor_main

    folder = Path(tempfile.mkdtemp())
    file = folder / "ephemeral_component.py"
    file.write_text(source)
    sys.argv = ["kfp.dsl.executor_main", "--component_module_path", str(file), *arguments]
    try:
        executor_main()
    except BaseException as error:
        text = str(error) if isinstance(error, SidlsgError) else next(iter(str(error).splitlines()), "")
        emit(kind="error", type=type(error).__name__, text=text, exit_code=getattr(error, "exit_code", None))
        raise


if __name__ == "__main__":
    main()
