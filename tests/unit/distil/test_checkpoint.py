"""Saving and finding states: what comes back, what stays, what is passed over, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.optimizer import SecondMomentAdam
from sidlsg.distil.recipes import Settings
from sidlsg.distil.run_identity import MANIFEST, Manifest, RunIdentity
from sidlsg.distil.state import TrainingState
from sidlsg.runtime.errors import InputError, SidlsgError

RUN = RunIdentity({"lr": "0.001", "teacher": "a" * 64})


@pytest.fixture
def state(make_unet: Callable[..., Any]) -> TrainingState:
    return TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3)


def checkpoints(
    folder: Path, report: Callable[[str], None] = print, run: RunIdentity = RUN, **more: Any
) -> Checkpoints:
    return Checkpoints(uri=str(folder), run=run, report=report, **more)


def take_a_step(state: TrainingState, seed: int) -> None:
    torch.manual_seed(seed)
    for optimizer, network in (
        (state.optimizers["generator"], state.generator),
        (state.optimizers["fake_score"], state.fake_score),
    ):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    state.iteration += 1
    state.images_seen += 4
    state.log.append({"iteration": state.iteration, "loss": 0.1 * seed})


def test_a_state_that_is_not_finite_does_not_replace_a_good_checkpoint(state: TrainingState, tmp_path: Path) -> None:
    said: list[str] = []
    saved = checkpoints(tmp_path, said.append)
    take_a_step(state, 1)
    saved.save(state, wait=True)
    take_a_step(state, 2)
    name, weight = next(iter(state.ema.named_parameters()))
    with torch.no_grad():
        weight[0] = torch.inf
    with pytest.raises(SidlsgError, match=f"ema.{name} holds values that are not finite"):
        saved.save(state, wait=True)
    assert checkpoints(tmp_path).iterations() == [1]


def saved_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("settings", [Settings(), Settings(precision="fp16", ema_offload=True)])
def test_everything_is_restored(make_unet: Callable[..., Any], tmp_path: Path, settings: Settings) -> None:
    state, other = (TrainingState.start(make_unet(n, torch.float32), 1e-3, 1e-3, settings=settings) for n in (0, 9))
    take_a_step(state, 1)
    state.carried = {"fake_score_loss": 0.5}
    if state.scalers["generator"].is_enabled():
        state.scalers["generator"].scale(torch.zeros(()))
        state.scalers["generator"].update(1024.0)
    checkpoints(tmp_path).save(state, wait=True)
    assert checkpoints(tmp_path).load_latest(other) == f"{tmp_path}/000000001"
    assert other.carried == {"fake_score_loss": 0.5}
    assert other.scalers["generator"].get_scale() == (1024.0 if settings.precision == "fp16" else 1.0)
    # Not only the same tensors: the same next step, which the optimizers' states decide too.
    for each in (state, other):
        take_a_step(each, 2)
    assert state.counters() == other.counters()
    tensors, others = state.tensors(), other.tensors()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert isinstance(other.optimizers["generator"], SecondMomentAdam)
    assert float(other.optimizers["generator"].param_groups[0]["step"]) == 2


def test_what_is_saved_is_the_state_at_that_moment(state: TrainingState, tmp_path: Path) -> None:
    """Training continues while the files are written."""
    saved = checkpoints(tmp_path)
    take_a_step(state, 1)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    saved.save(state)
    take_a_step(state, 2)
    saved.wait()
    assert saved.load_latest(state) is not None
    assert state.iteration == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in state.tensors().items())


def test_without_checkpoints_nothing_is_loaded(state: TrainingState, tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "new").load_latest(state) is None


def test_the_newest_and_the_best_stay(state: TrainingState, tmp_path: Path) -> None:
    saved = checkpoints(tmp_path, keep=2)
    for seed, score in enumerate([9.0, 3.0, None, 3.5, 5.0, None]):
        take_a_step(state, seed)
        saved.save(state, score=score)
    saved.wait()
    assert saved_in(tmp_path) == ["000000002", "000000005", "000000006"]
    assert saved.best() == 2


def test_a_damaged_checkpoint_does_not_count_among_the_newest(state: TrainingState, tmp_path: Path) -> None:
    saved = checkpoints(tmp_path, keep=2)
    for seed in range(3):
        take_a_step(state, seed)
        if seed != 1:
            saved.save(state, wait=True)
    assert saved_in(tmp_path) == ["000000001", "000000003"]
    next((tmp_path / "000000003").glob("*.safetensors")).write_bytes(b"")
    again = checkpoints(tmp_path, keep=2)
    again.load_latest(state)
    take_a_step(state, 1)
    again.save(state, wait=True)
    assert saved_in(tmp_path) == ["000000001", "000000002"]


def test_what_a_kill_left_half_deleted_goes_with_the_next_one(state: TrainingState, tmp_path: Path) -> None:
    saved = checkpoints(tmp_path, keep=1)
    take_a_step(state, 0)
    saved.save(state, wait=True)
    (tmp_path / "000000001" / MANIFEST).unlink()  # the first to go
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "000000001.png").write_bytes(b"a grid")
    take_a_step(state, 1)
    saved.save(state, wait=True)
    assert saved_in(tmp_path) == ["000000002", "grids"]
    assert (tmp_path / "grids" / "000000001.png").exists()


WRONG = {
    "bad counters": {"counters": {"iteration": "2", "generator_scaler": {}, "fake_score_scaler": {}}},
    "bad scale": {"counters": {"generator_scaler": {"scale": 1.0}, "fake_score_scaler": {}}},
    "bad run": {"run": RunIdentity({"seed": True})},  # type: ignore[dict-item]
    "bad score": {"score": "low"},
}
"""What a manifest may say with a digest that is right."""


@pytest.mark.parametrize(
    "damage", ["truncated", "changed", "missing", "not named", "bad manifest", "no manifest", *WRONG]
)
def test_a_damaged_checkpoint_is_named_and_passed_over(state: TrainingState, tmp_path: Path, damage: str) -> None:
    lines: list[str] = []
    saved = checkpoints(tmp_path, lines.append)
    for seed in range(2):
        take_a_step(state, seed)
        saved.save(state, wait=True)
    newest = next((tmp_path / "000000002").glob("*.safetensors"))
    manifest = tmp_path / "000000002" / MANIFEST
    content = newest.read_bytes()
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        newest.unlink()
    elif damage == "not named":
        newest.with_name("zzz.safetensors").write_bytes(content)
    elif damage == "bad manifest":
        manifest.write_text(manifest.read_text()[:50])
    elif damage in WRONG:
        manifest.write_text(Manifest(**vars(saved.manifest(2)) | WRONG[damage]).to_json())
    else:
        manifest.unlink()
    assert saved.load_latest(state) == f"{tmp_path}/000000001"
    assert state.iteration == 1
    # A checkpoint without its manifest was never finished: nothing to report.
    assert ["000000002" in line for line in lines] == ([] if damage == "no manifest" else [True])
    # The same iteration again takes the damaged one's place.
    take_a_step(state, 5)
    saved.save(state, wait=True)
    assert saved.load_latest(state) == f"{tmp_path}/000000002"


def test_another_runs_checkpoints_are_refused_unless_asked_for(state: TrainingState, tmp_path: Path) -> None:
    take_a_step(state, 1)
    checkpoints(tmp_path).save(state, wait=True)
    other = RunIdentity({"lr": "0.002", "teacher": "b" * 64})
    with pytest.raises(InputError, match=r"lr is 0.002 here and 0.001 there; teacher is b{12}… here and a{12}… there"):
        checkpoints(tmp_path, run=other).load_latest(state)
    assert checkpoints(tmp_path, run=other, accept_changes=True).load_latest(state) is not None


def test_what_a_killed_run_left_half_written_is_cleared_away(state: TrainingState, tmp_path: Path) -> None:
    take_a_step(state, 1)
    checkpoints(tmp_path).save(state, wait=True)
    (tmp_path / ".unfinished-000000002").mkdir()
    (tmp_path / ".unfinished-000000002" / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    saved = checkpoints(tmp_path)
    assert saved_in(tmp_path) == ["000000001"]
    assert saved.load_latest(state) == f"{tmp_path}/000000001"


def test_a_checkpoint_that_cannot_be_written_is_reported_and_the_next_one_is(
    state: TrainingState, tmp_path: Path
) -> None:
    lines: list[str] = []
    saved = checkpoints(tmp_path, lines.append)
    take_a_step(state, 1)
    saved.save(state, wait=True)
    # A file lies where the next one would be made.
    (tmp_path / ".unfinished-000000002").write_text("in the way")
    take_a_step(state, 2)
    saved.save(state)
    saved.wait()
    take_a_step(state, 3)
    saved.save(state)
    saved.wait()
    assert len(lines) == 1
    assert "checkpoint 2 could not be written" in lines[0]
    assert "the newest complete one is 1" in lines[0]
    assert saved_in(tmp_path) == [".unfinished-000000002", "000000001", "000000003"]
    with pytest.raises(SidlsgError, match="checkpoint 2 could not be written"):
        state.iteration = 2
        saved.save(state, wait=True)


def test_networks_of_another_kind_are_refused(
    state: TrainingState, make_unet: Callable[..., Any], tmp_path: Path
) -> None:
    take_a_step(state, 1)
    checkpoints(tmp_path).save(state, wait=True)
    path = tmp_path / "000000001" / MANIFEST
    assert json.loads(path.read_text())["files"]
    other = TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3)
    other.generator.register_parameter("more", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(InputError, match="another kind"):
        checkpoints(tmp_path).load_latest(other)


def test_others_files_stay(state: TrainingState, tmp_path: Path) -> None:
    """A folder that only looks like a checkpoint's is not ours to delete."""
    mine = tmp_path / "123456789" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    saved = checkpoints(tmp_path, keep=1)
    for seed in range(3):
        take_a_step(state, seed)
        saved.save(state, wait=True)
    assert mine.read_text() == "precious"
    assert saved_in(tmp_path) == ["000000003", "123456789"]


@pytest.mark.parametrize("damage", ["images_seen", "iteration"])
def test_a_manifest_that_is_still_json_is_checked_as_well(state: TrainingState, tmp_path: Path, damage: str) -> None:
    lines: list[str] = []
    saved = checkpoints(tmp_path, lines.append)
    for seed in range(2):
        take_a_step(state, seed)
        saved.save(state, wait=True)
    manifest = tmp_path / "000000002" / MANIFEST
    if damage == "images_seen":
        manifest.write_text(manifest.read_text().replace('"images_seen": 8', '"images_seem": 8', 1))
    else:  # another checkpoint's
        manifest.write_bytes((tmp_path / "000000001" / MANIFEST).read_bytes())
    assert saved.load_latest(state) == f"{tmp_path}/000000001"
    assert "000000002 is damaged" in lines[0]


def test_where_all_are_damaged_they_stay_to_be_repaired(state: TrainingState, tmp_path: Path) -> None:
    saved = checkpoints(tmp_path, keep=1)
    take_a_step(state, 0)
    state.iteration = 50
    saved.save(state, wait=True)
    next((tmp_path / "000000050").glob("*.safetensors")).unlink()
    again = checkpoints(tmp_path, keep=1)
    assert again.load_latest(state) is None
    for iteration in (1, 2):
        state.iteration = iteration
        again.save(state, wait=True)
    assert saved_in(tmp_path) == ["000000002", "000000050"]


def test_what_cannot_be_deleted_is_reported_and_the_checkpoint_is_there(
    state: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    saved = checkpoints(tmp_path, lines.append, keep=1)

    def refuse(_: Any) -> None:
        raise SidlsgError("the server is busy")

    monkeypatch.setattr(saved._store, "delete", refuse)
    for seed in range(2):
        take_a_step(state, seed)
        saved.save(state, wait=True)
    assert saved.iterations() == [1, 2]
    assert lines[-1] == "checkpoint 2 is written; older ones could not be deleted: the server is busy"


def test_a_home_folder_is_found(state: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    saved = Checkpoints(uri="~/states", run=RUN, report=print)
    take_a_step(state, 0)
    saved.save(state, wait=True)
    assert saved_in(tmp_path) == ["states"]
    assert saved.load_latest(state) == "~/states/000000001"


def test_a_state_that_was_just_written_is_not_written_again(state: TrainingState, tmp_path: Path) -> None:
    saved = checkpoints(tmp_path)
    take_a_step(state, 0)
    saved.save(state, wait=True)
    stamp = (tmp_path / "000000001" / MANIFEST).stat().st_mtime_ns
    saved.save(state, wait=True)
    assert (tmp_path / "000000001" / MANIFEST).stat().st_mtime_ns == stamp
    state.fake_score_done = True
    saved.save(state, wait=True)
    assert (tmp_path / "000000001" / MANIFEST).stat().st_mtime_ns != stamp
