from __future__ import annotations

import pytest

from sidlsg.cli.tables import print_cost
from sidlsg.runtime.costs import Prices, cost

SECONDS = {"curate": 1800.0, "distil": 5400.0, "gate": 3600.0}


def test_costs_are_a_line_a_stage_and_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    print_cost(cost(SECONDS, Prices(by_stage={"distil": 12.5, "curate": 0.4})))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "Cost",
        "time an hour cost",
        "curate 30 min 0 s 0.40 0.20",
        "distil 1 h 30 min 12.50 18.75",
        "gate 1 h 0 min - -",
        "all stages 3 h 0 min - 18.95",
        "without a price, and not in the sum: gate",
    ]


def test_without_a_price_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_cost(cost(SECONDS, Prices()))
    assert capsys.readouterr().out == ""
