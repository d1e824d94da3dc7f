"""MFU by hand."""

from __future__ import annotations

import pytest

from sidlsg.track.utilisation import Utilisation


def test_all_devices_count():
    alone = Utilisation(flops_per_image=15e12, device_peak=1e15)
    assert alone.mfu(20.0) == pytest.approx(0.3)
    assert Utilisation(flops_per_image=15e12, device_peak=1e15, world_size=4).mfu(20.0) == pytest.approx(0.075)
