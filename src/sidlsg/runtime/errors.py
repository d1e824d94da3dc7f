"""Errors that a user can cause or fix; the command line prints them as one line."""

import difflib
from collections.abc import Iterable


class SidlsgError(Exception):
    """An error that its message explains; the command line exits with `exit_code`."""

    exit_code = 1


class InputError(SidlsgError):
    """An input cannot be used: the message says what was given, what is allowed and what to do."""

    exit_code = 2


class ContentError(InputError):
    """A stored content is missing or differs from its digest; another copy may be good."""


class MissingError(ContentError):
    """A stored object does not exist."""


class AccessError(InputError):
    """A server refuses a request with the given credentials."""


class StorageError(SidlsgError):
    """Storage failed, perhaps for now: the same command may succeed later."""


class AlarmError(SidlsgError):
    """An alarm stopped the training."""

    exit_code = 4


class NotFiniteError(SidlsgError):
    """A network's outputs or weights hold NaN or infinity."""


class StoppedError(SidlsgError):
    """The process was asked to stop, and saved its state: the same command resumes."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class StageError(SidlsgError):
    """A stage failed; message and exit code are the stage's own."""

    def __init__(self, message: str, stage: str, exit_code: int) -> None:
        super().__init__(message)
        self.stage = stage
        self.exit_code = exit_code


class VerdictError(SidlsgError):
    """The challenger did not pass the gate."""

    exit_code = 3


class RunFailedError(SidlsgError):
    """A pipeline's run on a server failed or was cancelled."""

    exit_code = 5


def first_line(error: Exception) -> str:
    """The first line of a library's error; its type where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


NEAR = 0.4
"""The least similarity of a suggested name, from 0 to 1."""
BEGUN = 3
"""The fewest letters that may be the beginning of a longer name."""


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'tiny'?)` if a name or its beginning is similar, whatever its case; otherwise empty."""
    close = max(names, key=lambda other: _likeness(name, other), default="")
    return f" (did you mean {close!r}?)" if _likeness(name, close) >= NEAR else ""


def _likeness(name: str, other: str) -> float:
    name, other = name.casefold(), other.casefold()
    whole = difflib.SequenceMatcher(None, other, name).ratio()
    if not BEGUN <= len(name) < len(other):
        return whole if name else 0.0
    # People abbreviate a long name to its first word; an equally similar whole name is preferred.
    return max(whole, 0.9 * difflib.SequenceMatcher(None, other[: len(name)], name).ratio())
