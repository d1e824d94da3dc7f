"""Training ends without a heartbeat of its launcher, but not because a server does not answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.staging import HEARTBEAT, heartbeat, heartbeat_watched
from sidlsg.runtime.errors import StorageError
from sidlsg.storage.store import FolderStore

EVERY, SILENCE = 0.02, 0.4


class Away(FolderStore):
    """A store whose server does not answer."""

    def read(self, name: str) -> bytes:
        raise StorageError(f"no answer for {name}")


def watch(store: FolderStore, seconds: float) -> list[str]:
    """What the node did while it watched for so long."""
    did: list[str] = []
    with heartbeat_watched(store, did.append, lambda: did.append("end"), EVERY, SILENCE):
        time.sleep(seconds)
    return did


def test_training_continues_with_a_heartbeat(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path))
    with heartbeat(store, EVERY):
        assert store.read(HEARTBEAT)
        assert watch(store, 3 * SILENCE) == []


def test_a_missing_heartbeat_ends_training(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path))
    with heartbeat(store, EVERY):
        pass
    message, end = watch(store, 3 * SILENCE)
    assert "no heartbeat" in message
    assert end == "end"


def test_a_deleted_heartbeat_ends_training(tmp_path: Path) -> None:
    assert watch(FolderStore(str(tmp_path)), 3 * SILENCE)[-1] == "end"


def test_a_server_that_does_not_answer_does_not_end_training(tmp_path: Path) -> None:
    assert watch(Away(str(tmp_path)), 3 * SILENCE) == []


def test_a_heartbeat_that_cannot_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(str(tmp_path))
    with heartbeat(store, EVERY):
        first = store.read(HEARTBEAT)

        def away(name: str, data: bytes) -> None:
            raise StorageError(f"no place for {len(data)} bytes of {name}")

        with monkeypatch.context() as patched:
            patched.setattr(store, "write", away)
            time.sleep(5 * EVERY)
        end = time.monotonic() + 10
        while store.read(HEARTBEAT) == first and time.monotonic() < end:
            time.sleep(EVERY)
        assert store.read(HEARTBEAT) != first
