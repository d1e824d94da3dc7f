"""Damaged checkpoints: each is named and passed over, and the run still ends to the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidlsg.distil.run_identity import MANIFEST


def shard(checkpoint: Path) -> Path:
    return next(checkpoint.glob("*.safetensors"))


def flip(checkpoint: Path) -> None:
    data = bytearray(shard(checkpoint).read_bytes())
    data[len(data) // 2] ^= 1
    shard(checkpoint).write_bytes(data)


def truncate(checkpoint: Path) -> None:
    os.truncate(shard(checkpoint), shard(checkpoint).stat().st_size // 2)


def lose(checkpoint: Path) -> None:
    shard(checkpoint).unlink()


def break_manifest(checkpoint: Path) -> None:
    manifest = checkpoint / MANIFEST
    os.truncate(manifest, manifest.stat().st_size // 2)


def break_manifests_bytes(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_bytes(b"\xff\xfe\x00")


def empty_manifest(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_text("{}")


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (flip, "does not match its digest"),
    (truncate, "does not match its digest"),
    (lose, "is missing"),
    (break_manifest, f"its {MANIFEST} is damaged"),
    (break_manifests_bytes, f"its {MANIFEST} is damaged"),
    (empty_manifest, f"its {MANIFEST} is damaged"),
]


class PowerCutError(Exception):
    """Ends a run at once."""


def cut() -> None:
    raise PowerCutError


@pytest.fixture
def stopped(start: Any, at: Any, tmp_path: Path) -> Path:
    """The checkpoints of a run that was cut off at iteration 9: those of 6 and 8 are there."""
    place = tmp_path / "checkpoints"
    end = at(9, cut)
    run = start(place, end)
    end.checkpoints = run.checkpoints
    with pytest.raises(PowerCutError):
        run.train()
    assert run.checkpoints.iterations() == [6, 8]
    return place


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_the_newest_is_named_and_the_one_before_is_used(
    start: Any, same: Any, stopped: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(stopped / "000000008")
    again = start(stopped)
    same(again, again.train())
    passed, goes_on = again.lines
    assert f"checkpoint {stopped}/000000008 is damaged" in passed
    assert said in passed
    assert goes_on.startswith(f"continues from {stopped}/000000006: iteration 6 of 12")
    assert again.checkpoints.iterations() == [10, 12]


def test_where_all_are_damaged_each_is_named_and_the_run_starts_anew(start: Any, same: Any, stopped: Path) -> None:
    flip(stopped / "000000008")
    break_manifest(stopped / "000000006")
    again = start(stopped)
    same(again, again.train())
    assert [("000000008" in line, "000000006" in line) for line in again.lines] == [(True, False), (False, True)]
    assert all("passed over" in line for line in again.lines)


def test_a_checkpoint_that_was_being_replaced_comes_back(start: Any, same: Any, stopped: Path) -> None:
    """Half an iteration takes the whole one's place in two steps; a run may be killed between them."""
    os.replace(stopped / "000000008", stopped / ".unfinished-000000008-before")
    again = start(stopped)
    same(again, again.train())
    assert again.lines[0].startswith(f"continues from {stopped}/000000008")
    assert not list(stopped.glob(".unfinished-*"))


def test_what_else_lies_there_is_no_checkpoint(start: Any, same: Any, stopped: Path) -> None:
    (stopped / "000000099").mkdir()
    (stopped / "notes.txt").write_text("mine")
    again = start(stopped)
    same(again, again.train())
    assert again.lines[0].startswith(f"continues from {stopped}/000000008")
    assert (stopped / "notes.txt").read_text() == "mine"
