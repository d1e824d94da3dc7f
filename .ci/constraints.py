"""Writes the versions of everything that is installed beside this Python as pins: `python constraints.py FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

HEADER = "# What set-up installs, so that two installs are the same. Lower bounds are in pyproject.toml.\n"
NOT_PINNED = ("pip", "sidlsg")


def pins(installed: Iterable[tuple[str, str]]) -> str:
    """The file's text, for names and versions; a build's own part of a version, such as +cpu, is left out."""
    lines = {f"{name}=={version.partition('+')[0]}\n" for name, version in installed if name not in NOT_PINNED}
    return HEADER + "".join(sorted(lines, key=str.casefold))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(pins((each.metadata["Name"], each.version) for each in distributions()))
