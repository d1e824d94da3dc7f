"""Reads what `kfp.local` prints: which stage runs, which came from the cache, and the lines for the user."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

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


class LineSink(io.TextIOBase):
    """A text stream that hands on whole lines."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Hand on the lines that are complete now."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)


class Watcher:
    """Follows a run line by line."""

    def __init__(self, screen: Screen, log: TextIO) -> None:
        """Args:
        screen: is told what the user should see.
        log: receives every line.
        """
        self._screen, self._log = screen, log
        self._began = 0.0
        self.stages: list[StageRun] = []
        """The stages that ended well, in order."""
        self.failed = ""
        """The stage that failed, if one did."""
        self.printed: deque[str] = deque(maxlen=KEPT_LINES)
        """What the last stage printed."""

    def feed(self, raw: str) -> None:
        """Take one line."""
        line = _COLOUR.sub("", raw)
        self._log.write(line + "\n")
        if line.startswith(_INDENT):
            self._stage_line(line.removeprefix(_INDENT))
        elif match := _STARTED.fullmatch(line):
            self._began = time.monotonic()
            self.printed.clear()
            self._screen.stage_started(match["name"])
        elif match := _CACHED.fullmatch(line):
            self.stages.append(StageRun(name=match["name"], cached=True, seconds=0.0))
            self._screen.stage_done(match["name"], "taken from the cache")
        elif match := _ENDED.fullmatch(line):
            seconds = time.monotonic() - self._began
            if match["status"] == "SUCCESS":
                self.stages.append(StageRun(name=match["name"], cached=False, seconds=round(seconds, 1)))
                self._screen.stage_done(match["name"], f"done in {seconds:.1f} s")
            else:
                self.failed = match["name"]
                self._screen.stage_done(match["name"], f"failed after {seconds:.1f} s")

    def _stage_line(self, line: str) -> None:
        self.printed.append(line)
        if line.startswith(PREFIX):
            self._screen.progress(line)
        elif line.startswith(NOTE):
            self._screen.note(line.removeprefix(NOTE))
