"""Runs each stage of a local run as a fork of one process, and reads what the stage prints and reports."""

from __future__ import annotations

import ast
import contextlib
import os
import selectors
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sidlsg.kubeflow.local.forks import ForkServer, Job
from sidlsg.kubeflow.local.output import Watcher
from sidlsg.kubeflow.sdk import LocalCache, cache_module, subprocess_task_handler
from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.progress import EVENTS_VARIABLE

STORES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")
"""What MLflow imports when it opens a store."""
LATE = {
    "sidlsg.stages.training": ("sidlsg.stages.distil",),
    **{f"sidlsg.stages.{stage}": STORES for stage in ("register", "gate", "promote", "compare")},
}
"""By module: what it imports when it works; training by itself, as in a local run, or opening a store."""


class EndedError(BaseException):
    """The run is over. kfp's code in between catches every `Exception`, and this is none."""


class Stages:
    """Runs stages for `kfp.local` in place of its own subprocesses."""

    def __init__(self, cache: Path, watcher: Watcher, log: IO[str]) -> None:
        """`cache` is the folder of kfp's cache; `log` receives what libraries print while they are imported."""
        self._watcher, self._log = watcher, log
        self._cache = _ReportingCache(str(cache), watcher)
        self._server: ForkServer | None = None
        self._ended = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let kfp run stages here within the block."""
        # With this variable of kfp's, a step imports its executor without its compiler.
        with ForkServer({**os.environ, "_KFP_RUNTIME": "true"}, self._log) as self._server:
            earlier = subprocess_task_handler.run_local_subprocess, cache_module.get_local_cache
            subprocess_task_handler.run_local_subprocess = self.run
            cache_module.get_local_cache = lambda: self._cache
            try:
                yield
            finally:
                subprocess_task_handler.run_local_subprocess, cache_module.get_local_cache = earlier

    def end(self) -> None:
        """Start no more stages."""
        self._ended = True

    def run(self, full_command: Sequence[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one stage to its end; kfp calls this with a step's command and variables. Returns the exit code."""
        if self._ended or self._server is None:
            raise EndedError
        stage, source, arguments = parse_command(full_command)
        self._watcher.started(stage)
        with tempfile.TemporaryDirectory(prefix="sidlsg-") as folder:
            fifo = Path(folder) / "events"
            os.mkfifo(fifo)
            # Opened for writing too, so that it does not end while no stage has it open.
            events = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
            output, written = os.pipe()
            job = Job(
                target="sidlsg.kubeflow.local.forks:run_component",
                arguments=[source, arguments],
                imports=["kfp.dsl.executor_main", *imported_modules(source)],
                environment={**os.environ, **(env_vars or {}), "_KFP_RUNTIME": "true", EVENTS_VARIABLE: str(fifo)},
                folder=str(Path.cwd()),
            )
            try:
                try:
                    child = self._server.start(job, written, written)
                except SidlsgError:
                    if self._ended:
                        raise EndedError from None
                    raise
                finally:
                    os.close(written)
                self._follow(output, events)
                code = child.wait()
            finally:
                os.close(output)
                os.close(events)
        self._watcher.ended(stage, code == 0)
        return code

    def _follow(self, output: int, events: int) -> None:
        """Pass lines and events to the watcher until the stage's output ends."""
        rest = {output: b"", events: b""}

        def read(descriptor: int) -> bool:
            try:
                received = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return False
            *lines, rest[descriptor] = (rest[descriptor] + received).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                if descriptor == output:
                    self._watcher.printed(text)
                elif (event := _event(text)) is not None:
                    self._watcher.reported(event)
            return bool(received)

        with selectors.DefaultSelector() as selector:
            for descriptor in (output, events):
                selector.register(descriptor, selectors.EVENT_READ)
            while all(read(int(key.fd)) for key, _ in selector.select()):
                pass
        while read(events):
            pass
        if rest[output]:
            self._watcher.printed(rest[output].decode(errors="replace"))


class _ReportingCache(LocalCache):  # type: ignore[misc]
    """kfp's cache of stages, which reports hits to the watcher."""

    def __init__(self, root: str, watcher: Watcher) -> None:
        super().__init__(root)
        self._watcher = watcher
        self._stages: dict[str, str] = {}

    def compute_key(self, *args: Any, **given: Any) -> str:
        """The cache key of a stage, which is remembered by it."""
        key = str(super().compute_key(*args, **given))
        self._stages[key] = parse_command(given["full_command"])[0]
        return key

    def get(self, key: str) -> dict[str, Any] | None:
        """The cached outputs, or None."""
        found: dict[str, Any] | None = super().get(key)
        if found is not None:
            self._watcher.cached(self._stages[key])
        return found


def _event(line: str) -> dict[str, Any] | None:
    """An event, or None for another line, such as one that a killed process wrote in part."""
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def parse_command(full_command: Sequence[str]) -> tuple[str, str, list[str]]:
    """The stage's name, its source and the executor's arguments in a lightweight Python component's command.

    Raises:
        SidlsgError: the command has another form.
    """
    parts = list(full_command)
    try:
        (shell,) = (number for number, part in enumerate(parts) if "kfp.dsl.executor_main" in part)
        source, arguments = parts[shell + 1], parts[shell + 2 :]
        name = arguments[arguments.index("--function_to_execute") + 1]
    except (ValueError, IndexError) as error:
        raise SidlsgError(
            f"this version of kfp starts steps in an unknown way ({' '.join(parts)[:200]}); "
            "install one that the extra sidlsg[kfp] allows"
        ) from error
    return name.replace("_", "-"), source, arguments


def imported_modules(source: str) -> list[str]:
    """The modules of this package that a component's source imports, and what these import later."""
    found = (node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    names = sorted({name for name in found if name and name.startswith("sidlsg.")})
    late = [module for name in names for module in LATE.get(name, ())]
    return [*names, *late]
