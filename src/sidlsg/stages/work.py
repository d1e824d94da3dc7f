"""The folder that an output grows in until it is complete: one that was left is gone on with, or cleared away."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sidlsg.storage.files import WORK_MARK, alone_in, put_in_place, refuse_foreign

_DIGITS = 16


@contextlib.contextmanager
def work_folder(output: Path, key: str, marker: str) -> Iterator[Path]:
    """Give the folder beside `output` where work of this key was left, or a new one; a block that ends well moves it.

    Work of other keys for the same output, and files that were not finished, are deleted first.

    Args:
        output: where the folder goes in the end; an earlier output there is replaced.
        key: hex digest of all that the content depends on.
        marker: a file name that an earlier output holds; anything else is not replaced.

    Raises:
        InputError: another process works on the same output, or the output holds something else.
    """
    refuse_foreign(output, marker)
    output = output.resolve()  # of a link, what it leads to is replaced
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.parent / f".{output.name}.{key[:_DIGITS]}.work"
    for other in _left(output):
        if other != work:
            with alone_in(other, f"another process is writing {output}"):
                shutil.rmtree(other)
    work.mkdir(exist_ok=True)
    with alone_in(work, f"another process is writing {output}"):
        # Finished files were renamed into place; what still has its temporary name was not.
        for path in sorted(work.rglob(".*"), reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (work / WORK_MARK).touch()
        yield work
        put_in_place(work, output)
        (output / WORK_MARK).unlink()


def _left(output: Path) -> list[Path]:
    name = re.compile(rf"\.{re.escape(output.name)}\.[0-9a-f]{{{_DIGITS}}}\.work")
    there = (path for path in sorted(output.parent.iterdir()) if name.fullmatch(path.name))
    return [path for path in there if (path / WORK_MARK).is_file()]
