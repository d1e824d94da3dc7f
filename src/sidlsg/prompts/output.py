"""Where a prompt set may go, on disk or S3: what is there may be an earlier set, and nothing that is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sidlsg.prompts.phases.selection import CUTS
from sidlsg.prompts.source.files import absolute
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import refuse_foreign, refuse_inside
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import S3
from sidlsg.storage.uri import open_store

_SET = rf"{re.escape(PromptSet.FILE)}|(?:shards|origins)/[0-9]+\.parquet"
_OURS = re.compile(
    rf"{_SET}|{CUTS}/[^/]+/(?:{_SET})|(?:manifest|stats)\.json|summary\.(?:html|md)|near_duplicates\.parquet"
)
"""The names of a set's files."""


def check_output(output: str) -> None:
    """Check that an output is free, or an earlier prompt set.

    Raises:
        InputError: it holds something else.
        StorageError: the S3 server did not answer.
    """
    if not output.startswith(S3):
        refuse_foreign(Path(output), PromptSet.FILE)
        _refuse_additions(Path(output))
        return
    there = open_store(output).names()
    if there and PromptSet.FILE not in there:
        raise InputError(
            f"output {output} holds something else (no {PromptSet.FILE} in it); "
            "give a prefix that is new, empty or an earlier output"
        )


def _refuse_additions(output: Path) -> None:
    """Check that an earlier set has no files of others in it, which would go with it."""
    files = (path.relative_to(output).as_posix() for path in sorted(output.rglob("*")) if not path.is_dir())
    foreign = next((name for name in files if not _OURS.fullmatch(name)), None)
    if foreign is not None:
        raise InputError(f"output {output} is an earlier set, and {foreign} is no part of it; move it elsewhere first")


def check_apart(output: str, work: str, sources: Iterable[str]) -> None:
    """Check that nothing that is needed lies inside an output, which is replaced as a whole.

    Raises:
        InputError: a source or the place of work does.
    """
    for name, place in [("source", source) for source in sources] + ([("work", work)] if work else []):
        if not output.startswith(S3) and not place.startswith(S3):
            refuse_inside(Path(output), **{name: Path(place).expanduser()})
        elif f"{place.rstrip('/')}/".startswith(f"{output.rstrip('/')}/"):
            raise InputError(f"{name} {place} lies inside the output {output}, which is replaced; give another")


def check_outside(output: str, work: str, places: Iterable[str]) -> None:
    """Check that no output and no work lies inside a source, which would have it among its files the next time.

    Raises:
        InputError: one does.
    """
    for given in places:
        place = absolute(given).rpartition("=")[2]
        for name, target in (("output", output), ("work", work)):
            if target and _is_inside(target, place):
                raise InputError(
                    f"{name} {target} lies inside the source {place}, which would grow by it; give another"
                )


def _is_inside(target: str, place: str) -> bool:
    if target.startswith(S3) or place.startswith(S3):
        return f"{target.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")
    return Path(target).expanduser().resolve().is_relative_to(Path(place).resolve())
