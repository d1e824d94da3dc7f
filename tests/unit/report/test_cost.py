import math

import pytest

from sidlsg.errors import InputError
from sidlsg.report.cost import cost


def test_costs_by_the_hour():
    found = cost({"distil": 5400.0, "evaluate": 1800.0}, 3.0)
    assert found.price == "3.00"
    assert [(row.stage, row.time, row.share, row.cost) for row in found.stages] == [
        ("distil", "1 h 30 min", 75.0, "4.50"),
        ("evaluate", "30 min 0 s", 25.0, "1.50"),
    ]
    assert (found.total.time, found.total.cost) == ("2 h 0 min", "6.00")


def test_small_costs_keep_their_digits():
    assert cost({"gate": 36.0}, 1.25).total.cost == "0.0125"


def test_no_price_no_cost():
    found = cost({"distil": 10.0}, 0.0)
    assert found.price == ""
    assert found.total.cost == ""


def test_nothing_took_any_time():
    assert cost({}, 0.0).stages == ()
    assert cost({"gate": 0.0}, 1.0).stages[0].share == 0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_refuses_what_is_no_amount(bad):
    with pytest.raises(InputError, match=r"hourly_price is .*0 or more"):
        cost({"gate": 1.0}, bad)
    with pytest.raises(InputError, match="seconds of gate is"):
        cost({"gate": bad}, 1.0)
