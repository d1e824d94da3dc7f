"""Follows a local run: logs what its stages print and report, and shows the user their progress."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sidlsg.kubeflow.local.results import StageRun
from sidlsg.runtime.errors import StageError
from sidlsg.runtime.progress import PlainConsole, draws

LINE_EVERY = 15.0
"""Seconds between progress lines where output is not a terminal."""


def _titled(name: str, setting: str) -> str:
    return f"{setting}: {name}" if setting else name


class Screen:
    """Writes to a terminal or a plain file."""

    def __init__(self, file: TextIO) -> None:
        self._console = PlainConsole(file, soft_wrap=True)
        self._live = draws(file)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._setting = ""
        self._last_line = -LINE_EVERY

    def stage_started(self, name: str, setting: str = "") -> None:
        """Show that a stage began; `setting` is a sweep's."""
        self._setting = setting
        if self._live:
            self._show(name, None, "running")
        else:
            self._console.print(f"{_titled(name, setting)} ...")

    def stage_done(self, name: str, outcome: str, setting: str = "") -> None:
        """Show how a stage ended, as in `done in 3.1 s`."""
        self.close()
        self._console.print(f"{_titled(name, setting)} ... {outcome}")

    def note(self, text: str) -> None:
        """Show a stage's note."""
        self._console.print(f"  {text}")

    def progress(self, label: str, percent: int, text: str) -> None:
        """Show a stage's progress, as `sidlsg.runtime.progress.Meter` reports it."""
        if self._live:
            self._show(label, percent, text)
            return
        # A log file needs a line now and then, and the last.
        now = time.monotonic()
        if percent == 100 or now - self._last_line >= LINE_EVERY:
            self._last_line = now
            self._console.print(f"  {label} {percent}%: {text}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, label: str, percent: int | None, text: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
                console=self._console,
                transient=True,
                # `kfp_local` has redirected these already.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task(label, total=None, text=text)
            self._bar.start()
        self._bar.update(
            self._task,
            description=_titled(label, self._setting),
            total=None if percent is None else 100,
            completed=percent or 0,
            text=text,
            refresh=True,
        )


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LineSink(io.TextIOBase):
    """A text stream that calls a function with each whole line."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = ""

    def writable(self) -> bool:
        """Whether it can be written to: yes."""
        return True

    def write(self, text: str) -> int:
        """Pass the complete lines to the function."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Stages that run once for each of a sweep's settings, one setting after the other."""

    labels: tuple[str, ...] = ()
    """The settings, in order."""
    stages: tuple[str, ...] = ()
    """Their names; the first one begins the next round."""


class Watcher:
    """Receives the events of a run, in order: logs every line, and shows the user what concerns them."""

    def __init__(self, screen: Screen, log: TextIO, rounds: Rounds | None = None) -> None:
        self._screen, self._log = screen, log
        self._rounds = rounds or Rounds()
        self._labels = iter(self._rounds.labels)
        self._label = ""
        self._began = 0.0
        self._error: dict[str, Any] | None = None
        self.stages: list[StageRun] = []
        """The stages that succeeded, in order."""
        self.failure: StageError | None = None
        """The error of the first stage that failed."""

    def logged(self, line: str) -> None:
        """Log a line of kfp."""
        self._log.write(_COLOUR.sub("", line) + "\n")

    def printed(self, line: str) -> None:
        """Log a line of the running stage, indented; kfp's own lines are not."""
        self._log.write(f"    {line}\n")

    def started(self, stage: str) -> None:
        """A stage began."""
        self._began, self._error = time.monotonic(), None
        self._screen.stage_started(stage, self._begin(stage))

    def cached(self, stage: str) -> None:
        """A stage is skipped: the cache has its result."""
        self._done(stage, self._begin(stage), cached=True)

    def reported(self, event: dict[str, Any]) -> None:
        """An event of the running stage, see `sidlsg.runtime.progress.emit`."""
        match event:
            case {"kind": "progress", "label": str(label), "percent": int(percent), "text": str(text)}:
                self._screen.progress(label, percent, text)
            case {"kind": "note", "text": str(text)}:
                self._screen.note(text)
            case {"kind": "error"}:
                self._error = event

    def ended(self, stage: str, succeeded: bool) -> None:
        """A stage's process has ended."""
        setting = self._setting(stage)
        if succeeded:
            self._done(stage, setting, cached=False)
        else:
            # A sweep's other settings still run after it.
            self.failure = self.failure or stage_error(stage, setting, self._error, self._log.name)
            self._screen.stage_done(stage, f"failed after {self._seconds:.1f} s", setting)

    def _begin(self, stage: str) -> str:
        """The setting of the stage that begins now."""
        if stage in self._rounds.stages[:1]:
            self._label = next(self._labels, "")
        return self._setting(stage)

    def _setting(self, stage: str) -> str:
        return self._label if stage in self._rounds.stages else ""

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _done(self, name: str, setting: str, cached: bool) -> None:
        seconds = 0.0 if cached else self._seconds
        self.stages.append(StageRun(name=name, cached=cached, seconds=round(seconds, 1), setting=setting))
        self._screen.stage_done(name, "taken from the cache" if cached else f"done in {seconds:.1f} s", setting)


def stage_error(stage: str, setting: str, error: dict[str, Any] | None, log: str) -> StageError:
    """The error to raise for a failed stage.

    `error` is the stage's own report, None where it was killed; the file `log` has everything that it printed.
    """
    whose = f"setting {setting!r}: " if setting else ""
    if error is None:
        return StageError(
            f"{whose}stage {stage} ended without an error message, as a killed process does (is there enough memory?); "
            f"everything it printed is in {log}",
            stage,
            1,
        )
    if error["exit_code"] is not None:
        return StageError(f"{whose}{error['text']}", stage, error["exit_code"])
    named = f"{error['type']}: {error['text']}" if error["text"] else error["type"]
    return StageError(f"{whose}stage {stage} failed: {named}; everything it printed is in {log}", stage, 1)
