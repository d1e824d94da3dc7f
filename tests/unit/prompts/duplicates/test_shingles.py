import itertools
import random
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.shingles import blocks, jaccard_of_keys, shingles

KEYS = ["abcd", "abcdabcd", "a", "ab", "abc", "日", "日本語", "é1", "photographofacat" * 20, "zzzzzzzz"]


def rows(values, offsets):
    return [values[a:b] for a, b in itertools.pairwise(offsets)]


def test_windows_of_each_key_in_order():
    values, offsets = shingles(pl.Series(KEYS))
    assert values.dtype == np.uint32
    assert offsets.dtype == np.int64
    for key, row in zip(KEYS, rows(values, offsets), strict=True):
        data = key.encode().ljust(4, b"\0")
        assert [x.tobytes() for x in row.astype("<u4")] == [data[i : i + 4] for i in range(len(data) - 3)]


@pytest.mark.parametrize("cut", [slice(2, 7), slice(6, 10), slice(9, 10), slice(0, 2)])
def test_slices_and_chunks_of_a_column(cut):
    chunked = pl.concat([pl.Series(KEYS[:3]), pl.Series(KEYS[3:])], rechunk=False)
    for got, wanted in zip(shingles(chunked[cut]), shingles(pl.Series(KEYS[cut])), strict=True):
        assert np.array_equal(got, wanted)


def test_no_texts():
    values, offsets = shingles(pl.Series([], dtype=pl.String))
    assert not len(values)
    assert offsets.tolist() == [0]


def test_blocks_have_a_text_even_where_it_is_too_long():
    assert blocks(np.array([0, 2, 4, 30, 31, 32]), 4) == [(0, 2), (2, 3), (3, 5)]
    assert blocks(np.array([0]), 4) == []


def test_exact_for_any_texts_and_blocks(monkeypatch, exact):
    draw = random.Random(0)
    keys = [["".join(draw.choices("abc日", k=draw.randint(1, 60))) for _ in range(500)] for _ in range(2)]
    wanted = [exact(a, b) for a, b in zip(*keys, strict=True)]
    left, right = map(pl.Series, keys)
    assert jaccard_of_keys(left, right).tolist() == wanted
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
