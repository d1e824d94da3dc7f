"""A node whose step is gone: it ends, and a restart finds nothing to do."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.job_spec import JobSpec
from sidlsg.kubeflow.nodes.node import train_on_node
from sidlsg.kubeflow.nodes.staging import Staging, heartbeat
from sidlsg.runtime.errors import ContentError, StoppedError
from unit.kubeflow.nodes.launch import CHANGES, make_bundle


def test_an_abandoned_node_withdraws_its_job_spec(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    changes = json.dumps({**json.loads(CHANGES), "iterations": 1000, "checkpoint_every": 1, "processes": 1})
    bundle = make_bundle(tiny_student, tmp_path, changes=changes)
    staging = Staging(str(tmp_path / "staging"))
    staging.upload_inputs(bundle, print)
    reported: list[str] = []

    def live_until_it_trains() -> None:
        with heartbeat(staging.store, 0.05):
            while not list(tmp_path.glob("shared/checkpoints/*/*/checkpoint.json")):
                time.sleep(0.05)

    step = threading.Thread(target=live_until_it_trains, daemon=True)
    step.start()
    # Longer than a beat may be late on a busy machine.
    with pytest.raises(StoppedError):
        train_on_node(staging.uri, bundle.spec.digest, reported.append, every=0.05, silence=5.0)
    step.join()
    assert any("no heartbeat" in line for line in reported)
    assert JobSpec.FILE not in staging.store.names()
    # The exit code of this error is one that the runtime's policy does not restart.
    with pytest.raises(ContentError, match=JobSpec.FILE):
        train_on_node(staging.uri, bundle.spec.digest, reported.append)
    assert ContentError.exit_code == 2
