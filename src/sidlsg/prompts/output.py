"""Where a prompt set may go, on disk or S3: what is there may be an earlier set, and nothing that is needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.prompts.source.inputs import absolute
from sidlsg.records import PromptSet
from sidlsg.storage import refuse_foreign, refuse_inside
from sidlsg.store import S3, open_store


def check_output(output: str) -> None:
    """Check that an output is free, or an earlier prompt set.

    Raises:
        InputError: it holds something else.
        StorageError: the S3 server did not answer.
    """
    if not output.startswith(S3):
        refuse_foreign(Path(output), PromptSet.FILE)
        return
    there = open_store(output).names()
    if there and PromptSet.FILE not in there:
        raise InputError(
            f"output {output} holds something else (no {PromptSet.FILE} in it); "
            "give a prefix that is new, empty or an earlier output"
        )


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


def check_outside(output: str, places: Iterable[str]) -> None:
    """Check that an output does not lie inside a source, which would have it among its files the next time.

    Raises:
        InputError: it does.
    """
    for given in places:
        place = absolute(given).rpartition("=")[2]
        if output.startswith(S3) or place.startswith(S3):
            inside = f"{output.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")
        else:
            inside = Path(output).resolve().is_relative_to(Path(place).resolve())
        if inside:
            raise InputError(f"output {output} lies inside the source {place}, which would grow by it; give another")
