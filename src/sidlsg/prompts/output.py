"""Checks of the output, on disk or S3: it may replace an earlier prompt set, and nothing that is needed."""

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
_OWN = re.compile(
    rf"{_SET}|{CUTS}/[^/]+/(?:{_SET})|(?:manifest|stats)\.json|summary\.(?:html|md)|near_duplicates\.parquet"
)
"""Names of a set's files."""


def check_output(output: str) -> None:
    """Check that an output is free, or an earlier prompt set without other files, which would be lost."""
    if output.startswith(S3):
        there = open_store(output).names()
        if there and PromptSet.FILE not in there:
            raise InputError(
                f"output {output} holds something else (no {PromptSet.FILE} in it); "
                "give a prefix that is new, empty or an earlier output"
            )
        return
    refuse_foreign(Path(output), PromptSet.FILE)
    files = (path.relative_to(output).as_posix() for path in sorted(Path(output).rglob("*")) if not path.is_dir())
    foreign = next((name for name in files if not _OWN.fullmatch(name)), None)
    if foreign is not None:
        raise InputError(f"output {output} is an earlier set, and {foreign} is not part of it; move it elsewhere first")


def check_apart(output: str, work: str, sources: Iterable[str], files: Iterable[str]) -> None:
    """Check that no file of the sources and no work is inside the output, and neither of these inside a source.

    The output is replaced as a whole, and a source would have the output among its files the next time.
    """
    for given in sources:
        source = absolute(given).rpartition("=")[2]
        for name, target in (("output", output), ("work", work)):
            if target and _is_inside(target, source):
                raise InputError(
                    f"{name} {target} lies inside the source {source}, which would grow by it; give another"
                )
    for name, place in [("source", file) for file in files] + ([("work", work)] if work else []):
        if not output.startswith(S3) and not place.startswith(S3):
            refuse_inside(Path(output), **{name: Path(place).expanduser()})
        elif _is_inside(place, output):
            raise InputError(f"{name} {place} lies inside the output {output}, which is replaced; give another")


def _is_inside(inner: str, outer: str) -> bool:
    if inner.startswith(S3) or outer.startswith(S3):
        return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")
    return Path(inner).expanduser().resolve().is_relative_to(Path(outer).resolve())
