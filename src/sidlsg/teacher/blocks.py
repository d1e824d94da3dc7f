"""Blocks of a prompt set: the consecutive prompts that are encoded, stored and shuffled together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

BLOCK = 2048
"""Prompts a block. Training passes through a set block by block, so that text states are read from one file after
the other; for Stable Diffusion 1.5 in float16 such a file is 242 MB."""


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive blocks of `BLOCK` texts, the last one perhaps shorter."""
    rest = iter(texts)
    while block := list(islice(rest, BLOCK)):
        yield block
