"""Numbers in a file beside the declared version that they were made for, and whether today's are the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RTOL, ATOL = 5e-5, 2e-6
"""What another processor or another number of threads may change; a changed formula changes more."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Named numbers, and the version that the code declares for them."""

    version: str
    values: Any
    """Numbers in lists and in dicts by name."""


def differences(file: Path, found: Mapping[str, Numbers], command: str) -> list[str]:
    """What is wrong between a file and today's numbers, in words; empty where nothing is.

    Args:
        file: the committed numbers.
        found: today's, by the name of the version that they are made for, such as `sidlsg.distil.NUMERICS`.
        command: makes the file again.
    """
    kept = _read(file)
    lines = [f"{file} has no numbers for {name}: run `{command}`" for name in sorted(found.keys() - kept.keys())]
    lines += [f"{file} has numbers for {name}, which is gone: run `{command}`" for name in kept.keys() - found.keys()]
    for name in sorted(found.keys() & kept.keys()):
        now, then = found[name], kept[name]
        changed = _first_difference(now.values, then.values)
        if now.version != then.version:
            lines.append(f"{name} is {now.version!r}, and {file} was made for {then.version!r}: run `{command}`")
        elif changed:
            lines.append(
                f"{changed}, and {name} is the same. If results should change, raise {name} by hand and run "
                f"`{command}`: half-done work of before is then not continued. If not, undo what changed them."
            )
    return lines


def remake(file: Path, found: Mapping[str, Numbers]) -> None:
    """Write today's numbers.

    Raises:
        SystemExit: numbers changed and their version did not.
    """
    kept = _read(file) if file.exists() else {}
    for name in found.keys() & kept.keys():
        changed = _first_difference(found[name].values, kept[name].values)
        if found[name].version == kept[name].version and changed:
            raise SystemExit(f"{changed}; raise {name} first")
    table = {name: asdict(numbers) for name, numbers in found.items()}
    file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


def _read(file: Path) -> dict[str, Numbers]:
    return {name: Numbers(**entry) for name, entry in json.loads(file.read_text()).items()}


def _first_difference(now: Any, then: Any) -> str:
    ours, theirs = dict(_flat(now)), dict(_flat(then))
    if ours.keys() != theirs.keys():
        return f"{min(ours.keys() ^ theirs.keys())} is not in both"
    for name, value in ours.items():
        if not math.isclose(value, theirs[name], rel_tol=RTOL, abs_tol=ATOL):
            return f"{name} is {value!r} and was {theirs[name]!r}"
    return ""


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(values, int | float):
        yield name, float(values)
        return
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield from _flat(value, f"{name}/{key}" if name else str(key))
