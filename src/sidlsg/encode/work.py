"""The folder that an output grows in until it is complete: one that was left is gone on with, or cleared away."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sidlsg.storage import alone_in

_DIGITS = 16


@contextlib.contextmanager
def work_folder(output: Path, key: str) -> Iterator[Path]:
    """Give the folder beside `output` where work of this key was left, or a new one; a block that ends well moves it.

    Work of other keys for the same output, and files that were not finished, are deleted first.

    Args:
        output: where the folder goes in the end; an earlier output there is replaced.
        key: hex digest of all that the content depends on.

    Raises:
        InputError: another process works on the same output.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.parent / f".{output.name}.{key[:_DIGITS]}.work"
    for other in _left(output):
        if other != work:
            with alone_in(other, f"another process is writing {output}"):
                shutil.rmtree(other)
    work.mkdir(exist_ok=True)
    with alone_in(work, f"another process is writing {output}"):
        # Finished files were renamed into place; what still has its temporary name was not.
        for path in work.rglob(".*"):
            path.unlink()
        yield work
        _move(work, output)


def _left(output: Path) -> list[Path]:
    name = re.compile(rf"\.{re.escape(output.name)}\.[0-9a-f]{{{_DIGITS}}}\.(work|old)")
    return [path for path in sorted(output.parent.iterdir()) if name.fullmatch(path.name)]


def _move(work: Path, output: Path) -> None:
    old = work.with_suffix(".old")
    if output.exists():
        os.replace(output, old)
    # A process that is killed here finds the whole work again, and only moves it.
    os.replace(work, output)
    shutil.rmtree(old, ignore_errors=True)
