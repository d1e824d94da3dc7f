"""The digest of the files that a prompt set was made from."""

from __future__ import annotations

from collections.abc import Iterable

from sidlsg.storage import sha256_bytes


def sources_digest(digests: Iterable[str]) -> str:
    """SHA-256 over the files' digests, sorted, so that neither order nor names count; of a single file its own."""
    ordered = sorted(digests)
    return ordered[0] if len(ordered) == 1 else sha256_bytes("\n".join(ordered).encode())
