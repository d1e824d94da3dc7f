"""Champions that are rolled out on an emulated KServe with real predictors, by a service that is killed 20 times."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from forked import Program, run
from services.kfp_server import KfpServer
from services.kserve_api import NAME, KServe
from services.kubernetes_api import RunningApi
from services.triggers import Triggers, wait_until
from sidlsg.registry.registration import register
from sidlsg.registry.server.process import free_port
from sidlsg.registry.server.stack import DATA, Stack
from sidlsg.storage.records import Student
from sidlsg.storage.uri import open_store
from sidlsg.webhooks.copies import copy_model
from sidlsg.webhooks.ledger import DONE, FILE, Ledger
from sidlsg.webhooks.rollout import REFUSED, ROLLOUT

KILLS = 20
GOOD = {1: True, 2: False, 3: True, 4: True, 5: False}
"""By version: whether its server serves what was copied."""
TABLE = """
[[on]]
name = "new versions"
event = "model_version_tag.set"
tag = "reviewed"
model = "{model}"
run = {{ pipeline = "tiny", parameters = {{ version = "{{version}}" }} }}

[[on]]
name = "serve the champion"
event = "model_version_alias.created"
alias = "champion"
model = "{model}"
serve = {{ to = "{to}", service = "champion", canary_percent = 10, ready_minutes = 30 }}
"""


@pytest.fixture
def kubeflow() -> Iterator[KfpServer]:
    with KfpServer() as server:
        pipeline = {"display_name": "tiny", "pipeline_id": "p-1", "created_at": "2026-01-01T00:00:00Z"}
        server.lists["pipelines"].append(pipeline)
        inputs = {"parameters": {"version": {"parameterType": "STRING"}}}
        spec = {"pipelineInfo": {"name": "tiny"}, "root": {"inputDefinitions": inputs}}
        server.lists["versions"].append(
            {**pipeline, "display_name": "v1", "pipeline_version_id": "v-1", "pipeline_spec": spec}
        )
        yield server
    assert server.wrong == []


@contextlib.contextmanager
def predictor(folder: Path) -> Iterator[str]:
    """The address of a really started `sidlsg serve`."""
    port = free_port()
    with (folder.parent / "log").open("ab") as log:
        words = ["serve", str(folder), "--name", NAME, "--port", str(port)]
        process = Program(words, stdout=log, stderr=log, env=os.environ)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder.parent / "log").read_text()[-3000:]
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5).status == 200
        return False

    try:
        wait_until(answers, "the predictor does not answer", 300)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_each_rollout_happens_once_whatever_is_killed(
    servers: Stack, kubeflow: KfpServer, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in servers.s3.client_environment().items():
        monkeypatch.setenv(name, value)
    client, uri = MlflowClient(servers.mlflow.address), servers.mlflow.address
    model, to = f"rolled-{secrets.token_hex(4)}", f"s3://{DATA}/{secrets.token_hex(4)}"
    for number in GOOD:
        register(another(tiny_student, tmp_path / f"student{number}", number), uri, model)
    with RunningApi(tmp_path, KServe) as running:
        api: Any = running.api
        environment = {**servers.s3.client_environment(), "KUBECONFIG": str(running.kubeconfig)}
        table = TABLE.format(model=model, to=to)
        triggers = Triggers(tmp_path / "service", uri, kubeflow.host, table, environment)
        triggers.start("--poll-seconds", "1")
        kills: list[float] = []

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(triggers.pid, signal.SIGKILL)
                kills.append(time.monotonic())

        expected: list[str] = []
        previous = fetched(copy_model(model, "1", "", to, uri).uri, tmp_path / "copy0" / "model")
        for number, is_good in GOOD.items():
            place = copy_model(model, str(number), "", to, uri).uri
            folder = fetched(place, tmp_path / f"copy{number}" / "model")
            with predictor(folder if is_good else previous) as url:
                api.addresses, api.kill = dict.fromkeys(api.addresses, url) | {place: url}, kill
                client.set_model_version_tag(model, str(number), "reviewed", "yes")
                client.set_registered_model_alias(model, "champion", str(number))
                expected += ["canary", "promoted"] if is_good else ["canary", "back", "promoted"]
                share = KILLS * number // len(GOOD)
                until = time.monotonic() + 1200
                while len(kills) < share or len(api.patches) < len(expected) or done(triggers) < 2 * number:
                    assert time.monotonic() < until, (api.patches, kills, triggers.told()[-3000:])
                    if len(kills) >= share:
                        api.kill = None
                    if is_dead(triggers):
                        with contextlib.suppress(AssertionError):  # killed before it was seen to live
                            triggers.start("--poll-seconds", "1")
                    elif len(kills) < share and len(api.patches) >= len(expected):
                        kill()  # the last patch is made, and perhaps not noted yet
                    time.sleep(0.1)
            previous = folder if is_good else previous
            assert [kind(patch) for patch in api.patches] == expected
        assert len(kills) >= KILLS
        causes = [patch["metadata"]["annotations"][ROLLOUT] for patch in api.patches if kind(patch) == "canary"]
        assert len(set(causes)) == len(GOOD)
        for number, is_good in GOOD.items():
            place = copy_model(model, str(number), "", to, uri).uri
            assert api.most[place] == (100 if is_good else 10)
        assert api.uri == copy_model(model, "4", "", to, uri).uri
        # The refused rollout is shown everywhere, and stopped nothing else.
        wait_until(lambda: triggers.is_alive(), "the service lives")
        failing = json.load(urllib.request.urlopen(f"{triggers.url}/readyz", timeout=30))["failing"]
        assert list(failing) == causes[-1:] and "not the copy with digest" in failing[causes[-1]]
        assert "sidlsg_triggers_failing 1.0" in triggers.metrics()
        words = triggers.command("list", "--folder", str(triggers.folder / "state"))
        assert f"rolled back to {api.uri}: it serves" in run(words, check=True).stdout
        assert len(kubeflow.runs) == len(GOOD)
        assert triggers.end() == 0


def kind(patch: dict[str, Any]) -> str:
    """What a patch does."""
    notes = patch["metadata"].get("annotations", {})
    return "canary" if ROLLOUT in notes else "back" if notes.get(REFUSED) else "promoted"


def done(triggers: Triggers) -> int:
    """How many causes the ledger has as done."""
    return sum(state == DONE for _, state, _, _ in Ledger(triggers.folder / "state" / FILE).causes())


def is_dead(triggers: Triggers) -> bool:
    """Whether the service's process has ended."""
    assert triggers._process is not None
    return triggers._process.poll() is not None


def another(student: Path, folder: Path, seed: int) -> Path:
    """The same weights as another student."""
    shutil.copytree(student, folder)
    record = folder / Student.FILE
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seed": 1000 + seed}))
    return folder


def fetched(place: str, folder: Path) -> Path:
    """What KServe's storage initializer makes of a copy."""
    store = open_store(place)
    for name in store.names():
        store.get(name, folder / name)
    return folder
