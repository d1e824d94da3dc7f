"""Counter-based random numbers: a value depends on where it is used, not on earlier ones."""

from __future__ import annotations

import hashlib

import numpy as np


def counted(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """A Philox generator that is a pure function of its arguments.

    Seed and stream are its key, the counters its starting point, so that numbers do not depend on the device, the
    batch split or the world size.

    Args:
        seed: the run's seed, 0 to 2^64 - 1.
        stream: what the numbers are for; different names give independent numbers.
        counters: up to three (iteration, sample, …), each 0 to 2^64 - 1.
    """
    if len(counters) > 3:
        raise ValueError(f"{len(counters)} counters given; at most 3 fit")
    name = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    # The generator counts up the lowest word.
    words = [0, *counters, *([0] * (3 - len(counters)))]
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, name], np.uint64), counter=np.array(words, np.uint64))
    )
