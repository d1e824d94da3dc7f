"""Checkpoints on a real S3 server that dies and comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from services.seaweedfs import SeaweedFS
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.run_identity import RunIdentity
from sidlsg.distil.state import TrainingState
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError
from sidlsg.storage.s3 import S3Store


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A server of this test alone, which may be killed."""
    with SeaweedFS(tmp_path / "server") as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, to see what is left in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class PowerCutError(Exception):
    """Ends a run at once."""


def cut() -> None:
    raise PowerCutError


def kill_during_upload_of(run: Any, server: SeaweedFS, name: str) -> None:
    """Kill the server right before it is sent an object whose key holds a name."""
    store = run.checkpoints._store
    assert isinstance(store, S3Store)

    def before(params: dict[str, Any], **_: object) -> None:
        if name in str(params.get("url_path", params)):
            server.kill()

    store._client.meta.events.register("before-call.s3.PutObject", before)


def test_a_stopped_run_goes_on_from_s3_to_the_same_bits(
    start: Any, same: Any, at: Any, s3_place: str, scratch: Path
) -> None:
    place = f"{s3_place}/run"
    end = at(9, cut)
    run = start(place, end)
    end.checkpoints = run.checkpoints
    with pytest.raises(PowerCutError):
        run.train()
    again = start(place)
    same(again, again.train())
    assert again.lines == [f"continues from {place}/000000008: iteration 8 of 12, 16 images seen"]
    assert again.checkpoints.iterations() == [10, 12]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["shard", "checkpoint.json"])
def test_a_server_that_dies_during_an_upload_and_comes_back(
    start: Any, same: Any, at: Any, mortal: SeaweedFS, name: str
) -> None:
    place = f"s3://{mortal.make_bucket()}/run"
    begin, end = at(3, lambda: kill_during_upload_of(run, mortal, f"000000004/{name}")), at(7, mortal.start)
    run = start(place, begin, end)
    begin.checkpoints = end.checkpoints = run.checkpoints
    same(run, run.train())
    first, second = run.lines
    for line, iteration in ((first, 4), (second, 6)):
        assert line.startswith(f"checkpoint {iteration} could not be written to {place}")
        assert "does not answer" in line
        assert "training continues" in line
        assert "\n" not in line
        assert mortal.state["secret_key"] not in line
    assert run.checkpoints.iterations() == [10, 12]


def test_a_server_that_stays_away_leaves_what_was_there(start: Any, same: Any, at: Any, mortal: SeaweedFS) -> None:
    place = f"s3://{mortal.make_bucket()}/run"
    end = at(9, mortal.kill)
    run = start(place, end)
    end.checkpoints = run.checkpoints
    with pytest.raises(SidlsgError, match=r"checkpoint 12 could not be written .*could not be looked up now"):
        run.train()
    mortal.start()
    again = start(place)
    same(again, again.train())
    assert again.lines[0].startswith(f"continues from {place}/000000008")
    assert again.checkpoints.iterations() == [10, 12]


def test_damage_on_s3_is_named_and_the_one_before_is_used(
    start: Any, same: Any, at: Any, s3_server: SeaweedFS, s3_place: str
) -> None:
    place = f"{s3_place}/run"
    end = at(9, cut)
    run = start(place, end)
    end.checkpoints = run.checkpoints
    with pytest.raises(PowerCutError):
        run.train()
    bucket = s3_place.removeprefix("s3://")
    client = s3_server.client()
    (shard,) = (
        entry["Key"] for entry in client.list_objects_v2(Bucket=bucket, Prefix="run/000000008/shard")["Contents"]
    )
    client.put_object(Bucket=bucket, Key=shard, Body=client.get_object(Bucket=bucket, Key=shard)["Body"].read()[:-9])
    again = start(place)
    same(again, again.train())
    assert f"checkpoint {place}/000000008 is damaged" in again.lines[0]
    assert again.lines[1].startswith(f"continues from {place}/000000006")


def test_a_kill_during_an_upload_leaves_no_temporary_files(start: Any, same: Any, s3_place: str, scratch: Path) -> None:
    """They are as large as a checkpoint, and a run that is killed often would fill the disk."""
    place = f"{s3_place}/run"
    left = Path(tempfile.mkdtemp(prefix=start(place).checkpoints._temporary))
    (left / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    others = Path(tempfile.mkdtemp(prefix=start(f"{s3_place}/another").checkpoints._temporary))
    run = start(place)
    same(run, run.train())
    assert list(scratch.iterdir()) == [others]


def test_wrong_credentials_are_one_line_before_any_training(
    start: Any, s3_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(InputError, match="SignatureDoesNotMatch") as caught:
        start(f"{s3_place}/run")
    assert "\n" not in str(caught.value)
    assert "not-the-secret" not in str(caught.value)


def test_a_server_that_dies_while_half_an_iteration_goes_up_leaves_the_whole_one(
    make_unet: Any, s3_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same number: the half one's files must not take the others' places before it is complete."""
    state = TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3)
    saved = Checkpoints(uri=s3_place, run=RunIdentity({"of": "this test"}), report=print)
    state.iteration = 10
    saved.save(state, wait=True)
    state.iteration = 20
    saved.save(state, wait=True)
    whole = {name: tensor.clone() for name, tensor in state.tensors().items()}
    with torch.no_grad():
        for parameter in state.fake_score.parameters():
            parameter += 1
    state.fake_score_done = True
    with monkeypatch.context() as broken:
        broken.setattr(saved._store, "write", lambda *_: (_ for _ in ()).throw(StorageError("the server is gone")))
        with pytest.raises(SidlsgError, match="the newest complete one is 20"):
            saved.save(state, wait=True)
    assert saved.load_latest(state) == f"{s3_place}/000000020"
    assert not state.fake_score_done
    assert all(torch.equal(tensor, whole[name]) for name, tensor in state.tensors().items())
    # Complete, it replaces the whole one, and nothing of that one stays.
    state.fake_score_done = True
    saved.save(state, wait=True)
    assert saved.load_latest(state) == f"{s3_place}/000000020"
    assert state.fake_score_done
    names = [name for name in saved._store.names("000000020/") if name.endswith(".safetensors")]
    assert names
    assert all("/half-" in name for name in names)


def test_an_old_manifest_that_is_damaged_stops_no_later_checkpoint(make_unet: Any, s3_place: str) -> None:
    state = TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3)
    lines: list[str] = []
    saved = Checkpoints(uri=s3_place, run=RunIdentity({"of": "this test"}), report=lines.append, keep=3)
    for iteration in (10, 20):
        state.iteration = iteration
        saved.save(state, wait=True)
    store = saved._store
    assert isinstance(store, S3Store)
    key = "000000010/checkpoint.json"
    there = store._client.head_object(Bucket=store.bucket, Key=key)
    store._client.put_object(Bucket=store.bucket, Key=key, Body=b"{}", Metadata=there["Metadata"])
    again = Checkpoints(uri=s3_place, run=RunIdentity({"of": "this test"}), report=lines.append, keep=3)
    assert again.load_latest(state) == f"{s3_place}/000000020"
    state.iteration = 30
    again.save(state, wait=True)
    assert again.iterations()[-1] == 30
    assert lines == []
