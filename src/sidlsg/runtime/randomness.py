"""Random numbers by counters: what is drawn depends on where it is used, never on what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def counted(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """A generator that is a pure function of its arguments.

    Philox is a counter-based generator: the seed and the stream's name are its key, the counters its starting
    point. Draws are the same on every device, batch split and world size.

    Args:
        seed: the run's seed, 0 to 2^64 - 1.
        stream: what the numbers are for; different names give independent numbers.
        counters: up to three places in the stream (iteration, sample, …), each 0 to 2^64 - 1.
    """
    if len(counters) > 3:
        raise ValueError(f"{len(counters)} counters given; at most 3 fit")
    name = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    # The lowest counter word is the generator's own, counting up within a draw.
    words = [0, *counters, *([0] * (3 - len(counters)))]
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, name], np.uint64), counter=np.array(words, np.uint64))
    )
