"""`sidlsg delete`: what was asked for goes, what is in use or unfinished stays, and --dry-run changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.distil.run_identity import MANIFEST, Manifest, RunIdentity

Run = Callable[..., tuple[int, str, str]]
COUNTERS = {"iteration": 0, "images_seen": 0, "generator_scaler": {}, "fake_score_scaler": {}}


def checkpoint(folder: Path, iteration: int, iterations: int) -> Path:
    run = RunIdentity({"iterations": str(iterations)})
    manifest = Manifest(iteration=iteration, run=run, counters=COUNTERS, files={})
    made = folder / f"{iteration:09d}"
    made.mkdir(parents=True)
    (made / "shard-0.safetensors").write_bytes(b"weights")
    (made / MANIFEST).write_text(manifest.to_json())
    return made


def test_checkpoints_of_finished_trainings_go_and_nothing_else(sidlsg: Run, tmp_path: Path) -> None:
    place = tmp_path / "checkpoints"
    done = [checkpoint(place / "done", iteration, 20) for iteration in (10, 20)]
    running = checkpoint(place / "running", 10, 20)
    (place / "done" / "notes.txt").write_text("mine")

    code, out, _ = sidlsg("delete", "checkpoints", str(place), "--dry-run")
    assert code == 0
    assert f"would delete: {place}/done, iteration 20 of 20" in out
    assert f"kept: {place}/running, iteration 10 of 20" in out
    assert all(each.exists() for each in (*done, running))

    assert sidlsg("delete", "checkpoints", str(place))[0] == 0
    assert not any((each / MANIFEST).exists() for each in done)
    assert (running / MANIFEST).exists()
    assert (place / "done" / "notes.txt").read_text() == "mine"

    assert sidlsg("delete", "checkpoints", str(place), "--unfinished")[0] == 0
    assert not (running / MANIFEST).exists()


def test_a_damaged_checkpoint_is_not_taken_for_a_finished_one(sidlsg: Run, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "state", 20, 20)
    (made / MANIFEST).write_text("{")
    assert "kept: " in sidlsg("delete", "checkpoints", str(tmp_path / "state"))[1]
    assert made.exists()


def test_a_place_without_checkpoints_is_refused_unwalked(
    sidlsg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies deeper than a run's checkpoints belongs to something else."""
    deep = checkpoint(tmp_path / "home" / "work" / "checkpoints" / "done", 20, 20)
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("a walk"))
    monkeypatch.setattr(os, "walk", lambda *_: pytest.fail("a walk"))
    for place in (str(tmp_path / "home"), str(tmp_path), "/"):
        code, _, errors = sidlsg("delete", "checkpoints", place)
        assert code == 2
        assert f"there are no checkpoints in {place}; give a run's folder" in errors
    assert deep.exists()


def test_the_checkpoints_of_a_runs_folder_go(sidlsg: Run, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "run" / "checkpoints" / "tiny-1", 20, 20)
    assert sidlsg("delete", "checkpoints", str(tmp_path / "run"))[:2] == (
        0,
        f"deleted: {tmp_path}/run/checkpoints/tiny-1, iteration 20 of 20\n",
    )
    assert not made.exists()
    assert (tmp_path / "run").is_dir()


def test_quiet_deletes_in_silence(sidlsg: Run, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "state", 20, 20)
    assert sidlsg("delete", "checkpoints", str(tmp_path / "state"), "--quiet") == (0, "", "")
    assert not made.exists()


def test_a_student_goes_and_another_folder_stays(sidlsg: Run, tiny_student: Path, tmp_path: Path) -> None:
    student = Path(shutil.copytree(tiny_student, tmp_path / "student"))
    assert sidlsg("delete", "student", str(student), "--dry-run")[1].startswith("would delete: student in ")
    assert student.is_dir()
    assert sidlsg("delete", "student", str(student))[0] == 0
    assert not student.exists()
    other = tmp_path / "thesis"
    other.mkdir()
    assert sidlsg("delete", "student", str(other))[0] == 2
    assert other.is_dir()


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_link_to_a_student_is_refused(
    dry_run: tuple[str, ...], sidlsg: Run, tiny_student: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tiny_student)
    code, out, errors = sidlsg("delete", "student", str(tmp_path / "link"), *dry_run)
    assert (code, out, tiny_student.is_dir()) == (2, "", True)
    assert "is a link" in errors


def test_a_folder_that_holds_no_servers_is_not_deleted(sidlsg: Run, tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    assert sidlsg("delete", "services", str(other))[0] == 2
    assert (other / "thesis.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        (tmp_path / "nowhere").stat()
    assert sidlsg("delete", "services", str(tmp_path / "nowhere"))[0] == 2
