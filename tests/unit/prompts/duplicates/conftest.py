"""Texts of random letters with copies that are as similar as wanted, and similarity by plain sets."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

import pytest


def shingle_set(key: str) -> set[bytes]:
    data = key.encode().ljust(4, b"\0")
    return {data[place : place + 4] for place in range(len(data) - 3)}


def similarity(a: str, b: str) -> float:
    left, right = shingle_set(a), shingle_set(b)
    return len(left & right) / len(left | right)


@pytest.fixture
def exact() -> Callable[[str, str], float]:
    """The Jaccard similarity of two keys by sets."""
    return similarity


@pytest.fixture
def sets() -> Callable[[str], set[bytes]]:
    """A key's shingles as a set."""
    return shingle_set


@pytest.fixture
def near_copy() -> Callable[[random.Random, str, float], str]:
    """A copy with its end replaced by other letters: as long, with about the wanted similarity."""

    def make(draw: random.Random, key: str, wanted: float) -> str:
        count = len(key) - 3
        kept = round(2 * wanted * count / (1 + wanted))
        return key[: kept + 3] + letters(draw, len(key) - kept - 3)

    return make


def letters(draw: random.Random, size: int) -> str:
    return "".join(draw.choices(string.ascii_lowercase, k=size))


@pytest.fixture
def random_key() -> Callable[[random.Random, int], str]:
    """A key of so many random letters."""
    return letters
