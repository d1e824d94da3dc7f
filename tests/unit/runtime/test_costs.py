from __future__ import annotations

import math

import pytest

from sidlsg.runtime.costs import EXAMPLE, STAGES, Prices, cost, cost_of_json, costs_json, parse_prices
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
        ('{"distil": 1, "distil": 2}', "a name is given twice"),
    ],
)
def test_an_invalid_table_of_prices_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_prices(text)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_the_default_is_a_price_too(bad: float) -> None:
    with pytest.raises(InputError, match=r"hourly_price is .*0 or more"):
        parse_prices("{}", bad)


def test_costs_by_the_hour() -> None:
    found = cost({"distil": 5400.0, "evaluate": 1800.0}, Prices(default=3.0))
    assert [(row.stage, row.time, row.share, row.price, row.cost) for row in found.stages] == [
        ("distil", "1 h 30 min", 75.0, "3.00", "4.50"),
        ("evaluate", "30 min 0 s", 25.0, "3.00", "1.50"),
    ]
    assert (found.total.time, found.total.price, found.total.cost) == ("2 h 0 min", "", "6.00")
    assert (found.priced, found.amount, found.unpriced) == (True, 6.0, ())


def test_each_stage_has_its_price_and_what_has_none_is_left_out_and_named() -> None:
    found = cost({"curate": 1800.0, "distil": 5400.0, "gate": 3600.0}, Prices(by_stage={"distil": 12.5, "curate": 0.4}))
    assert [(row.stage, row.price, row.cost) for row in found.stages] == [
        ("curate", "0.40", "0.20"),
        ("distil", "12.50", "18.75"),
        ("gate", "", ""),
    ]
    assert (found.total.time, found.total.cost, found.amount) == ("3 h 0 min", "18.95", 18.95)
    assert found.unpriced == ("gate",)


def test_what_another_process_shows_is_the_same() -> None:
    seconds, prices = {"curate": 18.2, "distil": 5400.0}, Prices(default=1.25, by_stage={"distil": 12.5})
    assert cost_of_json(costs_json(seconds, prices)) == cost(seconds, prices)


def test_small_costs_keep_their_digits() -> None:
    assert cost({"gate": 36.0}, Prices(default=1.25)).total.cost == "0.0125"


def test_no_price_no_cost() -> None:
    found = cost({"distil": 10.0}, Prices())
    assert not found.priced
    assert (found.total.cost, found.amount, found.unpriced) == ("", 0.0, ())


def test_nothing_took_any_time() -> None:
    assert cost({}, Prices()).stages == ()
    assert cost({"gate": 0.0}, Prices(default=1.0)).stages[0].share == 0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_an_invalid_duration_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="seconds of gate is"):
        cost({"gate": bad}, Prices(default=1.0))
