"""A full disk: what was written stays, training continues, and the same command finishes once there is room."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from sidlsg.runtime.errors import SidlsgError

SIZE = 8 << 20


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def free(disk: Path) -> None:
    (disk / "ballast").unlink()


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_goes_on_and_the_next_checkpoint_is_written(start: Any, same: Any, at: Any, disk: Path) -> None:
    place, before = disk / "checkpoints", {}

    def full() -> None:
        fill(disk)
        before.update(bytes_of(place / "000000002"))

    def freed() -> None:
        assert bytes_of(place / "000000002") == before  # what was there is intact
        assert not list(place.glob("*4*"))
        free(disk)

    begin, end = at(3, full), at(7, freed)
    run = start(place, begin, end)
    begin.checkpoints = end.checkpoints = run.checkpoints
    same(run, run.train())
    assert before
    complaints = [line for line in run.lines if "checkpoint" in line]
    assert [line.split(" could")[0] for line in complaints] == ["checkpoint 4", "checkpoint 6"]
    for line in complaints:
        assert str(place) in line
        assert "no space left on the device; free some" in line
        assert "training continues, and the newest complete one is 2" in line
        assert "\n" not in line
    assert run.checkpoints.iterations() == [10, 12]
    assert not list(place.glob(".*"))


def test_the_last_checkpoint_must_be_written(start: Any, same: Any, at: Any, disk: Path) -> None:
    place = disk / "checkpoints"
    begin = at(9, lambda: fill(disk))
    run = start(place, begin)
    begin.checkpoints = run.checkpoints
    with pytest.raises(SidlsgError, match=r"checkpoint 12 could not be written to .*no space left.* complete one is 8"):
        run.train()
    assert run.checkpoints.iterations() == [6, 8]
    free(disk)
    again = start(place)
    same(again, again.train())
    assert again.lines[0].startswith(f"continues from {place}/000000008")
    assert again.checkpoints.iterations() == [10, 12]


def test_a_picture_that_cannot_be_written_does_not_end_the_run(start: Any, same: Any, disk: Path) -> None:
    fill(disk)
    run = start(disk)
    with pytest.raises(SidlsgError, match="checkpoint 12 could not be written"):
        run.train()
    assert len(run.state.log) == 12
    assert "there is no complete one yet" in run.lines[1]
    free(disk)
    again = start(disk)
    same(again, again.train())
