"""The architectures that are estimated."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.distil.estimate.fake_networks import shape_in
from sidlsg.teacher.architectures import Architecture


@pytest.fixture(scope="session")
def tiny(assets: Path) -> Architecture:
    return shape_in(assets / "tiny-sd", "tiny")


@pytest.fixture(scope="session")
def small(one_level: Path) -> Architecture:
    return shape_in(one_level, "tiny")
