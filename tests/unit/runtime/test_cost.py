import math

import pytest

from sidlsg.runtime.costs import Prices, cost, cost_of_json, costs_json
from sidlsg.runtime.errors import InputError


def test_costs_by_the_hour():
    found = cost({"distil": 5400.0, "evaluate": 1800.0}, Prices(default=3.0))
    assert [(row.stage, row.time, row.share, row.price, row.cost) for row in found.stages] == [
        ("distil", "1 h 30 min", 75.0, "3.00", "4.50"),
        ("evaluate", "30 min 0 s", 25.0, "3.00", "1.50"),
    ]
    assert (found.total.time, found.total.price, found.total.cost) == ("2 h 0 min", "", "6.00")
    assert (found.priced, found.amount, found.unpriced) == (True, 6.0, ())


def test_each_stage_has_its_price_and_what_has_none_is_left_out_and_named():
    found = cost({"curate": 1800.0, "distil": 5400.0, "gate": 3600.0}, Prices(by_stage={"distil": 12.5, "curate": 0.4}))
    assert [(row.stage, row.price, row.cost) for row in found.stages] == [
        ("curate", "0.40", "0.20"),
        ("distil", "12.50", "18.75"),
        ("gate", "", ""),
    ]
    assert (found.total.time, found.total.cost, found.amount) == ("3 h 0 min", "18.95", 18.95)
    assert found.unpriced == ("gate",)


def test_what_another_process_shows_is_the_same():
    seconds, prices = {"curate": 18.2, "distil": 5400.0}, Prices(default=1.25, by_stage={"distil": 12.5})
    assert cost_of_json(costs_json(seconds, prices)) == cost(seconds, prices)


def test_small_costs_keep_their_digits():
    assert cost({"gate": 36.0}, Prices(default=1.25)).total.cost == "0.0125"


def test_no_price_no_cost():
    found = cost({"distil": 10.0}, Prices())
    assert not found.priced
    assert (found.total.cost, found.amount, found.unpriced) == ("", 0.0, ())


def test_nothing_took_any_time():
    assert cost({}, Prices()).stages == ()
    assert cost({"gate": 0.0}, Prices(default=1.0)).stages[0].share == 0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_refuses_what_is_no_amount(bad):
    with pytest.raises(InputError, match="seconds of gate is"):
        cost({"gate": bad}, Prices(default=1.0))
