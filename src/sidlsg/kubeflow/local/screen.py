"""What the user sees of a run: one line a stage, the stages' own notes, and one live bar on a terminal."""

from __future__ import annotations

import time
from typing import TextIO

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sidlsg.runtime.console import PlainConsole

LINE_EVERY = 15.0
"""Seconds between progress lines where output is not a terminal."""


def _titled(name: str, setting: str) -> str:
    return f"{setting}: {name}" if setting else name


class Screen:
    """Writes to a terminal or a plain file."""

    def __init__(self, file: TextIO) -> None:
        self._console = PlainConsole(file, soft_wrap=True)
        self._live = file.isatty()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._setting = ""
        self._last_line = -LINE_EVERY

    def stage_started(self, name: str, setting: str = "") -> None:
        """A stage runs now; `setting` says of a sweep which setting it runs for."""
        self._setting = setting
        if self._live:
            self._show(name, None, "running")
        else:
            self._console.print(f"{_titled(name, setting)} ...")

    def stage_done(self, name: str, outcome: str, setting: str = "") -> None:
        """A stage ended; `outcome` says how, as in `done in 3.1 s`."""
        self._hide()
        self._console.print(f"{_titled(name, setting)} ... {outcome}")

    def note(self, text: str) -> None:
        """A stage has something to say."""
        self._console.print(f"  {text}")

    def progress(self, label: str, percent: int, text: str) -> None:
        """A stage's progress, as `sidlsg.runtime.progress.Meter` reports it."""
        if self._live:
            self._show(label, percent, text)
            return
        # A bar moves with every report; a log file needs a line now and then, and the last.
        now = time.monotonic()
        if percent == 100 or now - self._last_line >= LINE_EVERY:
            self._last_line = now
            self._console.print(f"  {label} {percent}%: {text}")

    def close(self) -> None:
        """Nothing comes any more, perhaps because of an error."""
        self._hide()

    def _show(self, label: str, percent: int | None, text: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
                console=self._console,
                transient=True,
                # Whoever uses a screen has redirected these already.
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

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
