"""Digests of the files that a prompt set is made from: of their content, and of what is known without reading it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes, sha256_file


def sources_digest(digests: Iterable[str]) -> str:
    """SHA-256 over the files' digests, sorted, so that neither order nor names count; of a single file its own."""
    ordered = sorted(digests)
    return ordered[0] if len(ordered) == 1 else sha256_bytes("\n".join(ordered).encode())


def sources_state(places: Sequence[str]) -> str:
    """SHA-256 of what lies at places now: of each file its name and its content or, on S3, its size and ETag.

    Raises:
        InputError: a place cannot be used, see `find_inputs`.
        StorageError: the S3 server did not answer.
    """
    # Imported here: boto3's and the formats' modules take a while, and a digest of digests does without.
    from sidlsg.prompts.source.files import find_inputs

    lines = []
    for file in find_inputs(places):
        state = sha256_file(Path(file.place)) if file.is_local else f"{file.size} {file.version}"
        lines.append(f"{file.label}\0{file.name}\0{state}\n")
    return sha256_bytes("".join(lines).encode())


def require_state(places: Sequence[str], state: str) -> None:
    """Check that what lies at places is what `sources_state` found.

    Raises:
        InputError: something was changed, added or taken away; or a place cannot be used.
        StorageError: the S3 server did not answer.
    """
    if sources_state(places) != state:
        raise InputError(
            f"what lies at {'; '.join(places)} was changed after this run began; start another run, when nobody "
            "writes there"
        )
