"""A node that trains for nobody ends; a server that does not answer is no reason."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.handover import ALIVE, beating, watched
from sidlsg.runtime.errors import StorageError
from sidlsg.storage.store import FolderStore

EVERY, SILENCE = 0.02, 0.4


class Away(FolderStore):
    """A store whose server does not answer."""

    def read(self, name: str) -> bytes:
        raise StorageError(f"no answer for {name}")


def watch(store: FolderStore, seconds: float) -> list[str]:
    """What the node did while it looked for so long."""
    did: list[str] = []
    with watched(store, did.append, lambda: did.append("end"), EVERY, SILENCE):
        time.sleep(seconds)
    return did


def test_a_step_that_lives_is_heard(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path))
    with beating(store, EVERY):
        assert store.read(ALIVE)
        assert watch(store, 3 * SILENCE) == []


def test_one_that_is_gone_ends_the_training(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path))
    with beating(store, EVERY):
        pass
    said, end = watch(store, 3 * SILENCE)
    assert "was not heard of for" in said
    assert end == "end"


def test_a_handover_that_was_taken_away_ends_it_too(tmp_path: Path) -> None:
    assert watch(FolderStore(str(tmp_path)), 3 * SILENCE)[-1] == "end"


def test_a_server_that_is_away_does_not(tmp_path: Path) -> None:
    assert watch(Away(str(tmp_path)), 3 * SILENCE) == []


def test_a_beat_that_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(str(tmp_path))
    with beating(store, EVERY):
        first = store.read(ALIVE)

        def away(name: str, data: bytes) -> None:
            raise StorageError(f"no place for {len(data)} bytes of {name}")

        with monkeypatch.context() as patched:
            patched.setattr(store, "write", away)
            time.sleep(5 * EVERY)
        end = time.monotonic() + 10
        while store.read(ALIVE) == first and time.monotonic() < end:
            time.sleep(EVERY)
        assert store.read(ALIVE) != first
