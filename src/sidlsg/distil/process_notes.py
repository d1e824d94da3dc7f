"""What the processes of a training step leave for the step that started them: their checkpoints' URI, and errors."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sidlsg.runtime import errors
from sidlsg.runtime.errors import AlarmError, InputError, SidlsgError, StoppedError, VerdictError, first_line

FINAL = frozenset(error.exit_code for error in (InputError, VerdictError, AlarmError, StoppedError))
"""Exit codes after which the same training would end the same way, or that somebody asked for."""
LOST = "LostError"
"""What a process raises when another one is gone; the other one knows why."""


@dataclass(frozen=True)
class ProcessNotes:
    """A folder that a step and its training processes share."""

    folder: Path

    def set_checkpoints(self, uri: str) -> None:
        """Note where this run's checkpoints are."""
        (self.folder / "checkpoints").write_text(uri)

    @property
    def checkpoints(self) -> str:
        """URI of the run's checkpoints; empty where no process came so far."""
        file = self.folder / "checkpoints"
        return file.read_text() if file.exists() else ""

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Note the error that ends the block, by the rank of this process, and raise it."""
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
        """The processes' error, of its own type: a final one first, then the lowest rank's; None where none noted any.

        That another process is gone counts last.
        """
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
        """Forget the errors of earlier processes."""
        for file in self.folder.glob("error-*.json"):
            file.unlink()
