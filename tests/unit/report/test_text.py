import math

import pytest

from sidlsg.runtime.formatting import counted, duration, fixed, plain


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234.5, 2, "1,234.50"),
        (-0.25, 2, "−0.25"),
        (0.0, 3, "0.000"),
        (math.nan, 2, "not a number"),
        (-math.inf, 2, "−∞"),
    ],
)
def test_fixed(value, decimals, text):
    assert fixed(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "0.0001"),
        (1.0, "1"),
        (-1.5, "−1.5"),
        (50_000, "50,000"),
        (True, "yes"),
        ("lsg", "lsg"),
        ("-x", "-x"),
        ({"kappa": 1.5, "b": 2}, "kappa = 1.5, b = 2"),
        ({}, "none"),
        ([0.0, 0.999], "0, 0.999"),
        (None, "None"),
    ],
)
def test_plain(value, text):
    assert plain(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.44, "3.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (312, "5 min 12 s"),
        (3599.7, "1 h 0 min"),
        (7443, "2 h 4 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_counted():
    assert counted(1, "shard", "shards") == "1 shard"
    assert counted(2016, "image", "images") == "2,016 images"
    assert counted(0, "rule", "rules") == "0 rules"
