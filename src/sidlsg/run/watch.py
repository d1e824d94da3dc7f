"""Reads what `kfp.local` prints: which stage runs, which came from the cache, and the lines for the user."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from sidlsg.pipeline_run import HEAD
from sidlsg.progress import PREFIX
from sidlsg.run.lines import NOTE
from sidlsg.run.request import StageRun
from sidlsg.run.screen import Screen

KEPT_LINES = 400
"""Of a stage's output, for its error message."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r".* - Executing task '(?P<name>[^']+)'")
_ENDED = re.compile(r".* - Task '(?P<name>[^']+)' finished with status (?P<status>SUCCESS|FAILURE)")
_CACHED = re.compile(r".* - Task (?P<name>\S+) cache hit \(key=.*")
_INDENT = " " * 4
"""Before each line that a stage printed; kfp's own lines have none."""


class EndedError(BaseException):
    """The run is over; meant to pass through whatever still works for it, which may well catch every `Exception`."""


class LineSink(io.TextIOBase):
    """A text stream that hands on whole lines."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = ""
        self._late: Callable[[], None] | None = None

    def end(self, late: Callable[[], None]) -> None:
        """Take no more lines: kfp says that it starts a stage before it does, and so starts none.

        Args:
            late: is called where one comes all the same, before the writer is stopped by an error.
        """
        self._late = late

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Hand on the lines that are complete now.

        Raises:
            EndedError: the run is over.
        """
        if self._late is not None:
            self._late()
            raise EndedError
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Stages that run once for each of a sweep's settings, one setting after the other."""

    labels: tuple[str, ...]
    """The settings, in order."""
    stages: tuple[str, ...]
    """Their names; the first one begins the next round."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A stage that failed."""

    stage: str
    setting: str
    """Of a sweep; empty where there is none."""
    printed: tuple[str, ...]
    """The last lines of what it printed."""


class Watcher:
    """Follows a run line by line."""

    def __init__(self, screen: Screen, log: TextIO, rounds: Rounds | None = None) -> None:
        """Args:
        screen: is told what the user should see.
        log: receives every line.
        rounds: the stages that run once a setting, where there are such.
        """
        self._screen, self._log = screen, log
        self._rounds = rounds or Rounds(labels=(), stages=())
        self._labels = iter(self._rounds.labels)
        self._label = ""
        self._began = 0.0
        self._printed: deque[str] = deque(maxlen=KEPT_LINES)
        self.stages: list[StageRun] = []
        """The stages that ended well, in order."""
        self.failure: Failure | None = None
        """The first stage that failed, if one did."""

    def feed(self, raw: str) -> None:
        """Take one line."""
        line = _COLOUR.sub("", raw)
        self._log.write(line + "\n")
        if line.startswith(_INDENT):
            self._stage_line(line.removeprefix(_INDENT))
        elif match := _STARTED.fullmatch(line):
            self._began = time.monotonic()
            self._printed.clear()
            self._screen.stage_started(match["name"], self._begin(match["name"]))
        elif match := _CACHED.fullmatch(line):
            self._done(match["name"], self._begin(match["name"]), cached=True)
        elif match := _ENDED.fullmatch(line):
            name, setting = match["name"], self._setting(match["name"])
            if match["status"] == "SUCCESS":
                self._done(name, setting, cached=False)
            else:
                # What a sweep does for its other settings comes after it.
                self.failure = self.failure or Failure(stage=name, setting=setting, printed=tuple(self._printed))
                self._screen.stage_done(name, f"failed after {self._seconds:.1f} s", setting)

    def _begin(self, stage: str) -> str:
        """The setting that a stage is for which begins now."""
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

    def _stage_line(self, line: str) -> None:
        line = HEAD.sub("", line, count=1) if HEAD.match(line) else line
        self._printed.append(line)
        if line.startswith(PREFIX):
            self._screen.progress(line)
        elif line.startswith(NOTE):
            self._screen.note(line.removeprefix(NOTE))
