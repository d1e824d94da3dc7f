"""Stored work, records and checkpoints are found again by the digests of before; digests.py says which is which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.stored.digests import COMMAND, FILE, digests

KEPT = json.loads(FILE.read_text())
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    return digests()


def test_no_digest_is_new_or_gone(found: dict[str, str]) -> None:
    assert sorted(found) == sorted(KEPT), f"if that is wanted, run `{COMMAND}`"


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_digest_is_that_of_before(name: str, found: dict[str, str]) -> None:
    assert found[name] == KEPT[name], f"if that is wanted, run `{COMMAND}`"


def test_the_command_prints_the_bundled_teachers_digest(sidlsg: Run, assets: Path) -> None:
    for place in ("bundled:tiny-sd", str(assets / "tiny-sd")):
        assert sidlsg("digest", place) == (0, f"{KEPT['teacher/tiny-sd']}\n", "")
