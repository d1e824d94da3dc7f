import random

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.minhash import WORDS, alike, signatures, sketches
from sidlsg.prompts.duplicates.shingles import shingles


@pytest.mark.parametrize("wanted", [0.6, 0.75, 0.9])
def test_alike_pairs_pass_and_unlike_ones_do_not(wanted, near_copy, random_key, exact):
    draw = random.Random(2)
    left = [random_key(draw, 60) for _ in range(3000)]
    right = [near_copy(draw, key, wanted) for key in left]
    least = min(exact(a, b) for a, b in zip(left, right, strict=True))
    a, b = (sketches(signatures(*shingles(pl.Series(keys)))) for keys in (left, right))
    assert a.shape == (WORDS, 3000)
    numbers = np.arange(3000)
    kept = alike(a, b, numbers, numbers, least)
    assert len(kept) >= 3000 - 6
    assert (np.diff(kept) > 0).all()
    assert len(alike(a, b, numbers, np.roll(numbers, 1), least)) < 30
    assert alike(a, a, numbers, numbers, 1.0).tolist() == numbers.tolist()
