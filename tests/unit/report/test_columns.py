from dataclasses import replace

import pytest

from sidlsg.report.columns import column_of, reading_of
from unit.report.cards import score


@pytest.mark.parametrize(
    "change", [{"protocol": "p"}, {"n": 5}, {"reference_digest": "e" * 64}, {"name": "kid"}, {"higher_is_better": True}]
)
def test_whatever_differs_is_another_column(change):
    one = score("fid", 8.15)
    assert column_of(one) == column_of(replace(one, value=3.0, interval=(2.0, 4.0)))
    assert column_of(one) != column_of(replace(one, **change))


def test_reading_and_arrow():
    one = score("fid", 8.15, interval=(8.0, 8.5))
    assert (reading_of(one).value, reading_of(one).interval) == (8.15, (8.0, 8.5))
    assert (column_of(one).arrow, column_of(score("clip", 0.3)).arrow) == ("↓", "↑")
