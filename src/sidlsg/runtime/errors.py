"""The errors that a user can cause or mend; the command line prints them as one line."""

import difflib
from collections.abc import Iterable


class SidlsgError(Exception):
    """Something went wrong that the message explains. The command line exits with `exit_code`."""

    exit_code = 1


class InputError(SidlsgError):
    """What was given cannot be used: the message says what was given, what is allowed and what to do."""

    exit_code = 2


class ContentError(InputError):
    """Something stored is missing, or its content is not what its digest says; another copy may be good."""


class MissingError(ContentError):
    """There is no such object."""


class AccessError(InputError):
    """A server refuses what was asked of it, with the credentials that were given."""


class StorageError(SidlsgError):
    """Storage did not do what it was asked, and may do it later: the same command again is worth trying."""


class AlarmError(SidlsgError):
    """Training went wrong in a way that the message names, and was stopped."""

    exit_code = 4


class NotFiniteError(SidlsgError):
    """Values that a network computed, or its weights, hold NaN or infinity."""


class StoppedError(SidlsgError):
    """The process was asked to end, and saved its state first: the same command goes on from there."""

    exit_code = 75
    """What sysexits.h calls a temporary failure: try again."""


class StageError(SidlsgError):
    """A stage failed; the message is the stage's own, and so is the exit code."""

    def __init__(self, message: str, stage: str, exit_code: int) -> None:
        super().__init__(message)
        self.stage = stage
        self.exit_code = exit_code


class VerdictError(SidlsgError):
    """The gate said no: the challenger was evaluated and not promoted."""

    exit_code = 3


class RunFailedError(SidlsgError):
    """A pipeline's run on a server failed or was cancelled."""

    exit_code = 5


def first_line(error: Exception) -> str:
    """What an error of a library says, on one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


NEAR = 0.4
"""How like a name must be to be suggested, from 0 to 1."""
BEGUN = 3
"""Letters from which on a name may be the beginning of a longer one."""


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'tiny'?)` where one of the names is near, or begins nearly so, else nothing; case is ignored."""
    close = max(names, key=lambda other: _likeness(name, other), default="")
    return f" (did you mean {close!r}?)" if _likeness(name, close) >= NEAR else ""


def _likeness(name: str, other: str) -> float:
    name, other = name.casefold(), other.casefold()
    whole = difflib.SequenceMatcher(None, other, name).ratio()
    if not BEGUN <= len(name) < len(other):
        return whole if name else 0.0
    # Of a long name, people write the first word; a whole name that is as near is nearer.
    return max(whole, 0.9 * difflib.SequenceMatcher(None, other[: len(name)], name).ratio())
