"""Progress: a bar on a terminal, a line now and then elsewhere, and events for a process that reads them."""

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

from sidlsg.runtime.provenance import headed, printable, say


class PlainConsole(Console):
    """Reads no markup, emoji names or control characters in what it prints."""

    def __init__(self, file: TextIO | None = None, soft_wrap: bool = False) -> None:
        super().__init__(file=file, markup=False, highlight=False, emoji=False, soft_wrap=soft_wrap)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text to print or a table's cell, control characters shown as escapes."""
        return super().render_str(printable(text), **options)


LINE_EVERY = 2.0
"""Seconds between lines where output is not a terminal."""
PREFIX = "progress: "
"""Starts each such line."""
EVENTS_VARIABLE = "SIDLSG_EVENTS"
"""Names a FIFO, where a process reads what this one and its children report."""
_LONGEST = 3000
"""Bytes of an event's text: a write of up to 4096 bytes to a FIFO is never mixed with another's."""


def emit(**event: Any) -> None:
    """Report an event, as one line of JSON, to the process that asked for events; without one, do nothing.

    Args:
        event: JSON values by name; a long `text` is cut.
    """
    path = os.environ.get(EVENTS_VARIABLE)
    if not path:
        return
    if "text" in event:
        event["text"] = event["text"].encode(errors="replace")[:_LONGEST].decode(errors="ignore")
    with contextlib.suppress(OSError):  # the reader has gone, or does not keep up with progress
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
    """Counts one kind of work up to a total.

    Use as a context manager; `update` as often as there is news.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """Args:
        label: what is going on.
        total: how much there is to do.
        unit: of what, in the plural.
        done: how much an earlier run did.
        """
        self.label, self.total, self.unit, self.first = label, total, unit, done
        self._began = time.monotonic()
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
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
        """Show that `done` of the total is done.

        Args:
            done: the count so far, earlier runs' included.
            note: more numbers for the line, such as losses.
        """
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


NOTE = "note: "
"""Starts a line that is meant for the user."""


def note(text: str) -> None:
    """Print a line for the user, at once: a log that is read while the stage runs must not lag."""
    print(headed(f"{NOTE}{text}"), flush=True)  # noqa: T201
    emit(kind="note", text=text)
