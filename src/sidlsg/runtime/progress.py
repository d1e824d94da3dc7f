"""Progress: a bar on a terminal, otherwise lines, and events for a parent process."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from sidlsg.runtime.provenance import NOTE, printable, say


class PlainConsole(Console):
    """Prints texts as they are: no markup, no emoji names, control characters escaped."""

    def __init__(self, file: TextIO | None = None, soft_wrap: bool = False) -> None:
        super().__init__(file=file, markup=False, highlight=False, emoji=False, soft_wrap=soft_wrap)

    def render_str(self, text: str, **options: Any) -> Text:
        """See `rich`; called for printed texts and cells of tables."""
        return super().render_str(printable(text), **options)


def draws(file: TextIO) -> bool:
    """Whether a bar can be drawn there: it is a terminal that can go back in a line."""
    return file.isatty() and not Console(file=file).is_dumb_terminal


LINE_EVERY = 2.0
"""Seconds between lines where output is not a terminal."""
PREFIX = "progress: "
"""Starts each such line."""
EVENTS_VARIABLE = "SIDLSG_EVENTS"
"""Names a FIFO, from which a parent process reads events of this one and its children."""
_LONGEST = 3000
"""Bytes of an event's text: writes of up to 4096 bytes to a FIFO are atomic."""


def emit(**event: Any) -> None:
    """Write an event of JSON values to the FIFO, if there is one, as a line of JSON; a long `text` is cut."""
    path = os.environ.get(EVENTS_VARIABLE)
    if not path:
        return
    if "text" in event:
        event["text"] = event["text"].encode(errors="replace")[:_LONGEST].decode(errors="ignore")
    with contextlib.suppress(OSError):  # the reader is gone or too slow
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.set_blocking(descriptor, event["kind"] == "error")
            os.write(descriptor, json.dumps(event, ensure_ascii=False).encode() + b"\n")
        finally:
            os.close(descriptor)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Meter:
    """A context manager that shows the progress of one kind of work."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """`unit` is in the plural; `done` is the count of an earlier run."""
        self.label, self.total, self.unit, self.first = label, total, unit, done
        self._began = time.monotonic()
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if draws(sys.stdout):
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), console=PlainConsole()
            )
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.first, text="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """Show the count so far, earlier runs included, and a note such as losses."""
        now = time.monotonic()
        rate = (done - self.first) / max(now - self._began, 1e-9)
        left = clock((self.total - done) / rate) if rate > 0 else "?"
        text = f"{done:,}/{self.total:,} {self.unit}, {rate:.1f} {self.unit}/s"
        text += f", {note}" if note else ""
        text += f", ETA {left}" if done < self.total else f", took {clock(now - self._began)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif now - self._last_line >= LINE_EVERY or done >= self.total:
            self._last_line = now
            percent = 100 * done // max(self.total, 1)
            say(f"{PREFIX}{self.label} {percent}%: {text}")
            emit(kind="progress", label=self.label, percent=percent, text=text)


def note(text: str) -> None:
    """Log a line for the user."""
    say(f"{NOTE}{text}")
    emit(kind="note", text=text)
