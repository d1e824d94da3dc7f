from __future__ import annotations

import math

import pytest

from sidlsg.runtime.costs import EXAMPLE, STAGES, Prices, parse_prices
from sidlsg.runtime.errors import InputError


def test_a_stage_has_its_own_price_or_the_default() -> None:
    prices = parse_prices(EXAMPLE, 2.0)
    assert {stage: prices.of(stage) for stage in STAGES} == dict.fromkeys(STAGES, 2.0) | {"distil": 12.5, "curate": 0.4}
    assert parse_prices("{}") == Prices()
    # A price of 0 is one that is known to be nothing, whatever the others cost.
    assert parse_prices('{"gate": 0}', 2.0).of("gate") == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "are not JSON"),
        ("[1]", "are not a JSON object"),
        (
            '{"distill": 1}',
            r"name 'distill', which is not a stage with a price \(did you mean 'distil'\?\); allowed: ",
        ),
        ('{"distil": "1"}', "price of distil is '1', not a number"),
        ('{"distil": true}', "price of distil is True, not a number"),
        ('{"distil": -0.5}', "price of distil is -0.5, not a price; give a finite number of 0 or more"),
        ('{"distil": NaN}', "price of distil is nan, not a price"),
        ('{"distil": 1e999}', "price of distil is inf, not a price"),
        (f'{{"distil": 1{"0" * 400}}}', "a number has .* digits"),
        ("[" * 100_000, "are not JSON"),
        ('{"distil": 1, "distil": 2}', "a name is there twice"),
    ],
)
def test_what_is_no_table_of_prices_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_prices(text)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_the_default_is_a_price_too(bad: float) -> None:
    with pytest.raises(InputError, match=r"hourly_price is .*0 or more"):
        parse_prices("{}", bad)
