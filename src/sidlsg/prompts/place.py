"""Where a curation works until it is complete: work that was left is gone on with, other work is cleared away."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sidlsg.prompts.work import DONE, Work
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import WORK_MARK, alone_in
from sidlsg.storage.store import S3

_DIGITS = 16


class NothingLeftError(InputError):
    """No row was left after a step: the same curation can only end like this again."""


@contextlib.contextmanager
def work_place(output: str, work: str, key: str) -> Iterator[str]:
    """Give the work folder of one curation; a block that ends well leaves nothing of it.

    Args:
        output: where the prompt set goes.
        work: a folder or S3 prefix for work; empty for one beside a local output. On S3 no lock
            keeps two curations apart.
        key: hex digest of all that the result depends on.

    Raises:
        InputError: another process works on the same, or a place is needed.
    """
    name = key[:_DIGITS]
    if work.startswith(S3):
        place = f"{work.rstrip('/')}/{name}"
        yield place
        Work(place).delete("")
        return
    if work:
        folder = Path(work).expanduser().absolute() / name
    elif output.startswith(S3):
        raise InputError(f"output {output} is on S3, so --work must name a folder or prefix for what is unfinished")
    else:
        target = Path(output).absolute()
        folder = target.parent / f".{target.name}.{name}.work"
        _clear_others(target, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"work cannot lie in {folder}: a part of that is a file; give a folder") from error
    with alone_in(folder, f"another process curates for {output}"):
        (folder / WORK_MARK).touch()
        try:
            yield str(folder)
        except InputError as error:
            # Work that cannot be gone on with, or has not begun, would only be in the way.
            if isinstance(error, NothingLeftError) or not (folder / DONE).is_dir():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _clear_others(target: Path, mine: Path) -> None:
    """Delete what curations of other rules or inputs left for the same output, unless they go on."""
    if not target.parent.is_dir():
        return
    form = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{{_DIGITS}}}\.work")
    for other in target.parent.iterdir():
        if other != mine and form.fullmatch(other.name) and (other / WORK_MARK).is_file():
            with alone_in(other, f"another process curates for {target}"):
                shutil.rmtree(other)
