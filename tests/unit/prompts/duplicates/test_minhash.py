import random

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.minhash import HASHES, NEAR_DUPLICATES, WORDS, alike, band_keys, signatures, sketches
from sidlsg.prompts.duplicates.shingles import jaccard_of_keys, shingles

GOLDEN = [154636356, 232354110, 221143155, 47795945]
GOLDEN_KEY = 15343619562495035297


def of(keys):
    return signatures(*shingles(pl.Series(keys)))


def test_numbers_never_change():
    first = of(["aphotographofacat"])[0]
    assert first.dtype == np.uint32
    assert first[:4].tolist() == GOLDEN
    assert int(band_keys(of(["aphotographofacat"]), *NEAR_DUPLICATES)[0, 9]) == GOLDEN_KEY


def test_blocks_repeats_and_neighbours_do_not_change_a_signature(monkeypatch):
    keys = ["abcdefgh", "x", "abcdefghabcdefgh", "日本語", "abcdabcdabcd"]
    whole = of(keys)
    monkeypatch.setattr("sidlsg.prompts.duplicates.minhash._BLOCK", 3)
    assert np.array_equal(of(keys), whole)
    assert all(np.array_equal(of([key])[0], row) for key, row in zip(keys, whole, strict=True))
    assert np.array_equal(of(["abcdabcd"])[0], of(["abcdabcdabcdabcd"])[0])


@pytest.mark.parametrize("wanted", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_estimates_and_candidates_are_as_the_formulas_say(wanted, near_copy, random_key):
    draw = random.Random(1)
    left = [random_key(draw, 60) for _ in range(4000)]
    right = [near_copy(draw, key, wanted) for key in left]
    s = jaccard_of_keys(pl.Series(left), pl.Series(right))
    a, b = of(left), of(right)
    estimate = (a == b).mean(axis=1)
    assert abs((estimate - s).mean()) < 0.01
    # The mean absolute deviation of a binomial share is about 0.8 standard errors.
    assert abs(estimate - s).mean() < 1.1 * 0.8 * np.sqrt(s * (1 - s) / HASHES).mean()
    for bands, rows in (NEAR_DUPLICATES, (20, 3)):
        rate = (band_keys(a, bands, rows) == band_keys(b, bands, rows)).any(axis=1).mean()
        formula = (1 - (1 - s**rows) ** bands).mean()
        assert rate == pytest.approx(formula, abs=0.025)


def test_a_key_depends_on_its_band_alone():
    same = np.ones((1, HASHES), np.uint32)
    keys = band_keys(same, 10, 6)
    assert len(np.unique(keys)) == 10
    for place in range(HASHES):
        other = same.copy()
        other[0, place] = 2
        assert np.flatnonzero(band_keys(other, 10, 6) != keys).tolist() == [place // 6]


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
