"""Restarts a training that was lost from its newest checkpoint, within bounds; other ends it passes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.runtime import errors
from sidlsg.runtime.errors import AlarmError, InputError, SidlsgError, StoppedError, VerdictError, first_line
from sidlsg.runtime.provenance import RESTART_WAIT_VARIABLE, RESTARTS_VARIABLE
from sidlsg.storage.uri import open_store

LONGEST_WAIT_S = 300.0
"""The pause before a restart grows up to this."""
_COMPLETE = re.compile(r"(\d{9})/checkpoint\.json")
_POLL_S = 0.1


FINAL = frozenset(error.exit_code for error in (InputError, VerdictError, AlarmError, StoppedError))
"""Exit codes after which the same training would end the same way, or that the user asked for."""
LOST = "LostError"
"""The type of a process's error where another process is gone, which has the reason."""


@dataclass(frozen=True)
class ProcessNotes:
    """A folder where training processes leave their checkpoints' URI and errors for the step that started them."""

    folder: Path

    def set_checkpoints(self, uri: str) -> None:
        """Leave the URI of the run's checkpoints."""
        (self.folder / "checkpoints").write_text(uri)

    @property
    def checkpoints(self) -> str:
        """URI of the run's checkpoints; empty where no process has left it."""
        file = self.folder / "checkpoints"
        return file.read_text() if file.exists() else ""

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Leave the error that ends the block, by the rank of this process, and raise it."""
        try:
            yield
        except Exception as error:
            text = str(error) if isinstance(error, SidlsgError) else f"{type(error).__name__}: {first_line(error)}"
            values = {"type": type(error).__name__, "text": text, "exit_code": getattr(error, "exit_code", 1)}
            rank = int(os.environ.get("RANK", "0"))
            with contextlib.suppress(OSError):  # a full disk may be the error itself
                (self.folder / f"error-{rank:05d}.json").write_text(json.dumps(values))
            raise

    def error(self) -> SidlsgError | None:
        """One of the processes' errors: a final one, else the lowest rank's; the loss of another process comes last."""
        found = []
        for file in sorted(self.folder.glob("error-*.json")):
            # A killed process may have written half of it.
            with contextlib.suppress(ValueError):
                found.append(json.loads(file.read_text()))
        if not found:
            return None
        values = min(found, key=lambda each: (each["exit_code"] not in FINAL, each["type"] == LOST))
        kind = getattr(errors, values["type"], SidlsgError)
        error: SidlsgError = (kind if issubclass(kind, SidlsgError) else SidlsgError)(values["text"])
        error.exit_code = values["exit_code"]
        return error

    def clear_errors(self) -> None:
        """Delete the errors of earlier processes."""
        for file in self.folder.glob("error-*.json"):
            file.unlink()


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How often a lost training is restarted, and after which pauses."""

    restarts: int = 0
    """Restarts in a row without a new checkpoint; a newer checkpoint than at the last failure resets the count."""
    wait: float = 5.0
    """Seconds before the first restart in a row; doubled before each further one."""

    def pause(self, number: int) -> float:
        """Seconds before the restart of that number in a row, from 1."""
        return min(LONGEST_WAIT_S, self.wait * 2.0 ** min(number - 1, 30))


def restart_policy() -> RestartPolicy | None:
    """The policy that a compiled pipeline gives its step by environment variables; None without.

    Raises:
        InputError: a variable is not a whole number.
    """
    if RESTARTS_VARIABLE not in os.environ:
        return None
    wait = _whole(RESTART_WAIT_VARIABLE, os.environ.get(RESTART_WAIT_VARIABLE, str(int(RestartPolicy.wait))))
    return RestartPolicy(restarts=_whole(RESTARTS_VARIABLE, os.environ[RESTARTS_VARIABLE]), wait=wait)


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise InputError(f"{name} is {text!r}; give a whole number of 0 or more, or unset it")
    return int(text)


@contextlib.contextmanager
def on_sigterm(handler: Callable[[], None]) -> Iterator[None]:
    """Handle SIGTERM while the block runs; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier: Any = signal.signal(signal.SIGTERM, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


class _Child:
    """Runs one process after another, and passes SIGTERM on to the current one."""

    def __init__(self) -> None:
        self.asked_to_end = False
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end; its exit code, negative for a signal."""
        try:
            self._process = subprocess.Popen(command)
            if self.asked_to_end:  # before there was a process to pass it on to
                self._process.send_signal(signal.SIGTERM)
            return self._process.wait()
        finally:
            if self._process is not None:
                self._process.kill()
            self._process = None

    def end(self) -> None:
        """Pass SIGTERM on."""
        self.asked_to_end = True
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until SIGTERM."""
        end = time.monotonic() + seconds
        while not self.asked_to_end and time.monotonic() < end:
            time.sleep(min(_POLL_S, seconds))


def supervise(
    command: Sequence[str], notes: ProcessNotes, policy: RestartPolicy, report: Callable[[str], None]
) -> None:
    """Run a training's command until it succeeds.

    The command trains, resumes from the newest checkpoint, and leaves `notes`. `report` receives a line for each
    restart: the reason, how many are left, and from which checkpoint.

    Raises:
        InputError: the training's own, as is every other error with an exit code in `FINAL`.
        SidlsgError: it was lost more often than the policy allows; with the last reason.
        StoppedError: this process was asked to end, and the training with it.
    """
    newest, failures, child = -1, 0, _Child()
    with on_sigterm(child.end):
        while code := child.run(command):
            error = notes.error()
            if child.asked_to_end:
                raise _stopped(error)
            if error is not None and error.exit_code in FINAL:
                raise error
            if code in FINAL:  # it ended before it could leave an error
                raise _with_code(SidlsgError(f"training ended with exit code {code}; its error is above"), code)
            reason = "training " + _reason(code, error)
            now = newest_checkpoint(notes.checkpoints)
            failures = failures + 1 if now <= newest else 1
            newest = max(newest, now)
            if failures > policy.restarts:
                raise _given_up(reason, error, policy)
            pause, left = policy.pause(failures), policy.restarts - failures
            start = f"checkpoint {newest}" if newest >= 0 else "the beginning, as there is no checkpoint yet"
            report(f"{reason}; restart from {start} in {pause:g} s, {left} more left until a new checkpoint is written")
            child.sleep(pause)
            if child.asked_to_end:
                raise _stopped(None)
            notes.clear_errors()


def newest_checkpoint(uri: str) -> int:
    """The iteration of the newest complete checkpoint; -1 where there is none, or the storage cannot be read."""
    if not uri:
        return -1
    try:
        names = open_store(uri, create=False).names()
    except SidlsgError:
        return -1
    return max((int(match[1]) for name in names if (match := _COMPLETE.fullmatch(name))), default=-1)


def _stopped(error: SidlsgError | None) -> StoppedError:
    if isinstance(error, StoppedError):
        return StoppedError("asked to end: the processes saved their state; the same step again resumes from there")
    return StoppedError(
        "asked to end: training ended without saving its state; the same step again resumes from the newest checkpoint"
    )


def _reason(code: int, error: SidlsgError | None) -> str:
    if error is not None:
        return f"failed ({' '.join(str(error).split())})"
    if code < 0:
        memory = " (is there enough memory?)" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{memory}"
    return f"ended with exit code {code} and no error of its own"


def _given_up(reason: str, error: SidlsgError | None, policy: RestartPolicy) -> SidlsgError:
    again = f"; it was restarted {policy.restarts} times without a new checkpoint" if policy.restarts else ""
    text = f"{reason if error is None else error}{again}"
    return SidlsgError(text) if error is None else _with_code(type(error)(text), error.exit_code)


def _with_code(error: SidlsgError, code: int) -> SidlsgError:
    error.exit_code = code
    return error
