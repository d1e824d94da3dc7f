import random
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.shingles import jaccard_of_keys


def test_exact_for_any_texts_and_blocks(monkeypatch, exact):
    draw = random.Random(0)
    keys = [["".join(draw.choices("abc日", k=draw.randint(1, 60))) for _ in range(500)] for _ in range(2)]
    wanted = [exact(a, b) for a, b in zip(*keys, strict=True)]
    left, right = map(pl.Series, keys)
    assert jaccard_of_keys(left, right).tolist() == wanted
    monkeypatch.setattr("sidlsg.prompts.duplicates.shingles._ROWS", 50)
    monkeypatch.setattr("sidlsg.prompts.duplicates.shingles._PAIRS", 70)
    assert jaccard_of_keys(left, right).tolist() == wanted
    assert jaccard_of_keys(left, left).tolist() == [1.0] * 500


def test_no_pairs():
    none = pl.Series([], dtype=pl.String)
    assert jaccard_of_keys(none, none).tolist() == []


@pytest.mark.parametrize("literal", ["0.5", "0.7", "0.73", "0.75", "0.8", "0.85", "0.9", "0.999999"])
def test_float_quotients_compare_as_fractions_do(literal):
    threshold = Fraction(literal)
    union = np.arange(1, 10_000)
    least = np.array([-(-threshold.numerator * u // threshold.denominator) for u in union.tolist()])
    assert (least / union >= float(literal)).all()
    assert not ((least - 1) / union >= float(literal)).any()
