"""Time by work, peak and offloading."""

from __future__ import annotations

from typing import Any

import pytest

from sidlsg.distil.estimate.memory import Network, Use
from sidlsg.distil.estimate.speed import BUS, HOST, iteration_seconds
from sidlsg.distil.recipes import Settings
from sidlsg.runtime.errors import InputError

N = 10**9


def seconds(world_size: int = 1, mfu: float = 0.5, **settings: Any) -> float:
    use = Use(network=Network(parameters=N, block=1, trained=N), settings=Settings(**settings), world_size=world_size)
    return iteration_seconds(use, 10e12, 512, 1000e12, mfu)


def test_time_is_work_by_the_share_of_the_peak() -> None:
    assert seconds() == pytest.approx(512 * 10 / 500)
    assert seconds(world_size=4) == pytest.approx(seconds() / 4)
    assert seconds(mfu=0.25) == pytest.approx(2 * seconds())


def test_offloading_takes_time_on_the_bus_and_the_host() -> None:
    assert seconds(optimizer_offload=True) - seconds() == pytest.approx(16 * N / BUS)
    assert seconds(ema_offload=True) - seconds() == pytest.approx(4 * N / BUS + 12 * N / HOST)


@pytest.mark.parametrize("mfu", [0, -0.1, 1.1])
def test_an_invalid_share_is_refused(mfu: float) -> None:
    with pytest.raises(InputError, match=f"mfu is {mfu}; allowed: above 0, at most 1"):
        seconds(mfu=mfu)
