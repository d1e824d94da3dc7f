"""The triggers service as users start it, with MLflow on PostgreSQL: hostile deliveries, restarts, losses."""

from __future__ import annotations

import json
import os
import random
import resource
import secrets
import select
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest
from mlflow import MlflowClient

from forked import run
from services.dripping import Gate
from services.kfp_server import KfpServer
from services.triggers import PATIENCE_S, SECRET, Triggers, created, wait_until
from services.verdicts import leave, verdict
from sidlsg.registry.promotion import promote, rollback
from sidlsg.registry.registration import register
from sidlsg.registry.server.stack import DATA, Stack
from sidlsg.storage.records import Student
from sidlsg.storage.uri import open_store
from sidlsg.webhooks.receiver import signature_of

RULE = """
[[on]]
name = "new versions"
event = "model_version.created"
model = "{model}"

[on.run]
pipeline = "tiny"
parameters = {{ version = "{{version}}" }}
"""
Start = Callable[..., Triggers]


@pytest.fixture
def kubeflow() -> Iterator[KfpServer]:
    with KfpServer() as server:
        pipeline = {"display_name": "tiny", "pipeline_id": "p-1", "created_at": "2026-01-01T00:00:00Z"}
        server.lists["pipelines"].append(pipeline)
        inputs = {"parameters": {"version": {"parameterType": "STRING"}}}
        spec = {"pipelineInfo": {"name": "tiny"}, "root": {"inputDefinitions": inputs}}
        version = {**pipeline, "display_name": "v1", "pipeline_version_id": "v-1", "pipeline_spec": spec}
        server.lists["versions"].append(version)
        yield server
    assert server.wrong == []


@pytest.fixture
def service(servers: Stack, kubeflow: KfpServer, tmp_path: Path) -> Start:
    def make(table: str) -> Triggers:
        return Triggers(tmp_path, servers.mlflow.address, kubeflow.host, table, servers.s3.client_environment())

    return make


@pytest.fixture
def client(servers: Stack) -> MlflowClient:
    return MlflowClient(servers.mlflow.address)


@pytest.fixture
def model(client: MlflowClient) -> str:
    name = f"triggering-{secrets.token_hex(4)}"
    client.create_registered_model(name)
    return name


def new_version(client: MlflowClient, model: str) -> str:
    run = client.create_run("0").info
    return str(client.create_model_version(model, source=f"{run.artifact_uri}/model", run_id=run.run_id).version)


def test_hostile_deliveries(service: Start, client: MlflowClient, model: str, kubeflow: KfpServer) -> None:
    """1,000 forged, replayed, expired and oversized ones: none is accepted, and the service serves on."""
    triggers, chance = service(RULE.format(model=model)), random.Random(0)
    with triggers.running("--body-bytes", "20000"):
        number = new_version(client, model)
        body = created(model, number)
        assert triggers.send("good", body) == 202

        def oversized() -> int:
            try:
                return triggers.send(f"o{chance.random()}", b" " * chance.randint(20_001, 200_000))
            except (HTTPException, OSError):  # cut off before it was all sent
                return 413

        kinds: dict[str, tuple[Callable[[], int], set[int]]] = {
            "forged": (lambda: triggers.send(f"f{chance.random()}"[:9].replace(".", ""), body, secret="guess"), {401}),
            "another body": (
                lambda: triggers.send("x1", body, **{"X-MLflow-Signature": signature_of(SECRET, "x1", "1", b"{}")}),
                {401},
            ),
            "replayed": (lambda: triggers.send("good", body), {200}),
            "expired": (
                lambda: triggers.send("e1", body, age=chance.choice([-1, 1]) * chance.randint(400, 10**6)),
                {400},
            ),
            "oversized": (oversized, {413}),
            "no event": (lambda: triggers.send(secrets.token_hex(8), chance.randbytes(200)), {400}),
        }
        answers: Counter[tuple[str, int]] = Counter()
        for _ in range(1000):
            kind = chance.choice(list(kinds))
            call, expected = kinds[kind]
            answer = call()
            answers[kind, answer] += 1
            assert answer in expected, (kind, answer)
        wait_until(lambda: triggers.lines("done"), "the good one starts a run")
        assert triggers.is_alive()
        assert len(kubeflow.runs) == 1
        assert len(triggers.lines("taken")) == 1
        assert "Traceback" not in triggers.told()
        assert SECRET not in triggers.told()
        assert 'deliveries_total{status="202"} 1.0' in triggers.metrics()
    print(dict(answers))  # noqa: T201


def test_200_deliveries_over_three_restarts_are_one_run(
    service: Start, client: MlflowClient, model: str, kubeflow: KfpServer
) -> None:
    triggers = service(RULE.format(model=model))
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            # MLflow's tries of one delivery, and other deliveries of the same event.
            assert triggers.send(f"d{sent % 70}", body) in (200, 202)
            sent += 1

    triggers.start()
    body = created(model, new_version(client, model))
    # The server makes the run, and its answer does not come: the service is between the intent and the run.
    killed = Event()
    kubeflow.look = lambda: bool(kubeflow.runs) and not killed.wait(PATIENCE_S)
    send(50)
    wait_until(lambda: kubeflow.runs, "the run is asked for")
    assert triggers.end(signal.SIGKILL) == -signal.SIGKILL
    assert "wanted" in listed(triggers)
    killed.set()
    triggers.start()
    send(50)
    wait_until(lambda: triggers.lines("done"), "the run is found")
    assert triggers.end() == 0
    triggers.start()
    send(50)
    assert triggers.end() == 0
    with triggers.running():
        send(50)
    assert sent == 200
    assert len(kubeflow.runs) == 1
    (done,) = triggers.lines("done")
    assert done["result"] == kubeflow.runs[0]["run_id"]
    assert f"done   {done['name']}" in listed(triggers)


def listed(triggers: Triggers) -> str:
    words = triggers.command("list", "--folder", str(triggers.folder / "state"))
    return run(words, check=True).stdout


def test_mlflow_itself_tells_and_what_it_lost_is_found(
    service: Start, client: MlflowClient, model: str, kubeflow: KfpServer, servers: Stack
) -> None:
    old = new_version(client, model)
    triggers = service(RULE.format(model=model))
    # Long, so that only the webhook can be the reason.
    with triggers.running("--poll-seconds", "600"):
        words = ("--file", str(triggers.file), "--tracking-uri", servers.mlflow.address, "--url", triggers.url)
        for told in ("made", "changed"):
            environment = {**triggers.environment, "SIDLSG_WEBHOOK_SECRET": SECRET, "PATH": "/usr/bin:/bin"}
            done = run(triggers.command("webhook", *words), env=environment, check=True)
            assert done.stdout.startswith(f"{told} webhook sidlsg-triggers")
        time.sleep(1.5)  # MLflow remembers that there was no webhook
        new = new_version(client, model)
        wait_until(lambda: len(kubeflow.runs) == 1, "MLflow's delivery starts a run")
    assert kubeflow.runs[0]["runtime_config"]["parameters"] == {"version": new}
    lost = new_version(client, model)
    with triggers.running("--poll-seconds", "1"):
        wait_until(lambda: len(kubeflow.runs) == 2, "the look finds what was lost")
    assert kubeflow.runs[1]["runtime_config"]["parameters"] == {"version": lost}
    assert old not in [run["runtime_config"]["parameters"]["version"] for run in kubeflow.runs]
    for hook in client.list_webhooks():
        client.delete_webhook(hook.webhook_id)


def test_a_server_that_is_away_is_asked_again(
    service: Start, client: MlflowClient, model: str, kubeflow: KfpServer
) -> None:
    triggers = service(RULE.format(model=model))
    with triggers.running():
        assert urllib.request.urlopen(f"{triggers.url}/readyz", timeout=30).status == 200
        kubeflow.faults += ["reset"] * 5
        assert triggers.send("d1", created(model, new_version(client, model))) == 202
        wait_until(lambda: len(kubeflow.runs) == 1, "the run is started in the end")
        wait_until(lambda: triggers.lines("done"), "and noted")
    assert len(kubeflow.runs) == 1


def test_a_dry_run_starts_and_remembers_nothing(
    service: Start, client: MlflowClient, model: str, kubeflow: KfpServer
) -> None:
    triggers = service(RULE.format(model=model))
    with triggers.running("--dry-run"):
        assert triggers.send("d1", created(model, new_version(client, model))) == 202
        wait_until(lambda: triggers.lines("would be done"), "it says what it would do")
    assert kubeflow.runs == []
    assert not (triggers.folder / "state").exists()


def test_a_second_service_is_refused(service: Start, model: str) -> None:
    triggers = service(RULE.format(model=model))
    with triggers.running():
        words = ("--file", str(triggers.file), "--folder", str(triggers.folder / "state"))
        words += ("--tracking-uri", triggers.uri, "--host", triggers.kubeflow)
        environment = {**triggers.environment, "SIDLSG_WEBHOOK_SECRET": SECRET}
        done = run(triggers.command("serve", *words), env=environment)
    assert done.returncode != 0
    assert "another service uses" in done.stderr


class Watcher:
    """Asks `/healthz` all the time, and keeps many connections open that send nothing."""

    def __init__(self, triggers: Triggers, idle: int) -> None:
        self._triggers, self._count = triggers, idle
        self._over = Event()
        self._thread = Thread(target=self._watch)
        self.took: list[float] = []
        """Seconds of each answer; infinite for one that did not come, or was another than 200."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        with ExitStack() as stack:
            idle: list[socket.socket] = []
            while not self._over.wait(0.1):
                gone, _, _ = select.select(idle, [], [], 0)
                idle = [one for one in idle if one not in gone]
                for _ in range(self._count - len(idle)):
                    idle.append(stack.enter_context(socket.create_connection(("127.0.0.1", self._triggers.port))))
                self.took.append(self._ask())

    def _ask(self) -> float:
        began = time.monotonic()
        try:
            answer = urllib.request.urlopen(f"{self._triggers.url}/healthz", timeout=10)
        except (OSError, HTTPException):
            return float("inf")
        return time.monotonic() - began if answer.status == 200 else float("inf")


def test_a_storm_of_deliveries_beside_idle_connections_while_mlflow_hangs(
    servers: Stack, client: MlflowClient, model: str, kubeflow: KfpServer, tmp_path: Path
) -> None:
    """1,000 deliveries, 300 of them of one cause: each cause is done once when MLflow answers again."""
    deliveries, others = 1000, 100
    run_info = client.create_run("0").info
    with Gate(servers.mlflow.address) as gate:
        triggers = Triggers(tmp_path, gate.address, kubeflow.host, RULE.format(model=model), {})
        # Long, so that only the deliveries can be the reason.
        with triggers.running("--poll-seconds", "600"):
            same, *rest = (
                str(client.create_model_version(model, f"{run_info.artifact_uri}/m", run_info.run_id).version)
                for _ in range(1 + others)
            )
            numbers = [same] * 300 + [rest[n % others] for n in range(deliveries - 300)]
            random.Random(0).shuffle(numbers)
            gate.hangs.set()
            with Watcher(triggers, idle=200) as watcher:
                with ThreadPoolExecutor(8) as threads:
                    sent = threads.map(lambda n: triggers.send(f"d{n}", created(model, numbers[n])), range(deliveries))
                    assert Counter(sent) == {202: deliveries}
                wait_until(lambda: "failing: reach MLflow: " in listed(triggers), "the failure is shown")
                assert "; next attempt at 20" in listed(triggers)
                with pytest.raises(urllib.error.HTTPError, match="503") as caught:
                    urllib.request.urlopen(f"{triggers.url}/readyz", timeout=30)
                assert "mlflow" in json.load(caught.value)
                assert kubeflow.runs == []
                gate.hangs.clear()
                wait_until(lambda: len(triggers.lines("done")) == 1 + others, "every cause is done", patience_s=600)
            assert max(watcher.took) < 1.0
            assert len(watcher.took) > 20
            wait_until(lambda: "failing: " not in listed(triggers), "nothing fails any more")
            assert urllib.request.urlopen(f"{triggers.url}/readyz", timeout=30).status == 200
    started = Counter(run["runtime_config"]["parameters"]["version"] for run in kubeflow.runs)
    assert started == dict.fromkeys([same, *rest], 1)
    assert all(json.loads(line) for line in triggers.told().splitlines())
    assert "Traceback" not in triggers.told()


def test_a_service_without_free_files_works_again_when_there_are_some(
    service: Start, client: MlflowClient, model: str, kubeflow: KfpServer
) -> None:
    triggers = service(RULE.format(model=model))
    with triggers.running("--poll-seconds", "600"):
        body = created(model, new_version(client, model))
        used = len(list(Path(f"/proc/{triggers.pid}/fd").iterdir()))
        before = resource.prlimit(triggers.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(triggers.pid, resource.RLIMIT_NOFILE, (used + 3, before[1]))
        with ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(socket.create_connection(("127.0.0.1", triggers.port)))
            wait_until(lambda: "Too many open files" in triggers.told(), "it runs out of files")
        wait_until(triggers.is_alive, "it answers again")
        resource.prlimit(triggers.pid, resource.RLIMIT_NOFILE, before)
        assert triggers.send("d1", body) == 202
        wait_until(lambda: triggers.lines("done"), "and works again")
    assert len(kubeflow.runs) == 1
    assert all(json.loads(line) for line in triggers.told().splitlines())


def test_a_service_that_was_stopped_between_looking_and_starting_leaves_no_second_run(
    service: Start, servers: Stack, client: MlflowClient, model: str, kubeflow: KfpServer, tmp_path: Path
) -> None:
    sleeper = service(RULE.format(model=model))
    other = Triggers(tmp_path / "other", servers.mlflow.address, kubeflow.host, RULE.format(model=model), {})
    stopped: list[int] = []

    def stop() -> None:
        # It has seen that there is no run of the name, and has not yet asked for one.
        if kubeflow.requests[-1].startswith("GET") and kubeflow.requests[-1].endswith("/runs") and not stopped:
            os.kill(sleeper.pid, signal.SIGSTOP)
            stopped.append(sleeper.pid)

    with sleeper.running("--poll-seconds", "600"), other.running("--poll-seconds", "600"):
        body = created(model, new_version(client, model))
        kubeflow.look = stop
        assert sleeper.send("d1", body) == 202
        wait_until(lambda: stopped, "it is stopped")
        assert other.send("d1", body) == 202
        wait_until(lambda: other.lines("done"), "the other one starts the run")
        os.kill(sleeper.pid, signal.SIGCONT)
        wait_until(lambda: sleeper.lines("done"), "it finds the other one's run")
    first, second = kubeflow.runs
    assert {line["result"] for one in (sleeper, other) for line in one.lines("done")} == {first["run_id"]}
    assert (first["state"], second["state"]) == ("PENDING", "CANCELED")


def test_a_champion_is_copied_and_named_last(
    service: Start,
    servers: Stack,
    tiny_student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in servers.s3.client_environment().items():
        monkeypatch.setenv(name, value)
    name, to = f"served-{secrets.token_hex(4)}", f"s3://{DATA}/{secrets.token_hex(4)}"
    rule = f'[[on]]\nname = "serve"\nevent = "model_version_alias.created"\nmodel = "{name}"\nalias = "champion"\n'
    triggers = service(f'{rule}copy = {{ to = "{to}" }}\n')
    folders = [tiny_student, another(tiny_student, tmp_path / "other")]
    versions = [register(folder, servers.mlflow.address, name) for folder in folders]

    def promoted(number: int, champion: int | None) -> None:
        passed = verdict(name, number, champion)
        leave(passed, MlflowClient(servers.mlflow.address))
        promote(passed, servers.mlflow.address)

    def current() -> dict[str, object]:
        store = open_store(f"{to}/{name}")
        return json.loads(store.read("current.json")) if "current.json" in store.names("current.json") else {}

    with triggers.running("--poll-seconds", "1"):
        promoted(1, None)
        wait_until(lambda: current().get("version") == 1, "the first champion is copied")
        promoted(2, 1)
        wait_until(lambda: current().get("version") == 2, "the second one, too")
        rollback(servers.mlflow.address, name, "to see the copy follow")
        wait_until(lambda: current().get("version") == 1, "an alias that comes back is another cause")
        # Noted after the copy is there.
        wait_until(lambda: len(triggers.lines("done")) == 3, "each copy is noted")
    for version, folder in zip(versions, folders, strict=True):
        run = MlflowClient(servers.mlflow.address).get_run(version.run_id)
        place = f"{to}/{name}/{version.version}-{run.data.tags['model_sha256'][:16]}"
        store = open_store(place)
        sums = dict(reversed(line.split("  ")) for line in store.read("SHA256SUMS").decode().splitlines())
        assert set(store.names()) == {*sums, "SHA256SUMS"}
        for path, digest in sums.items():
            store.get(path, tmp_path / "back" / str(version.version) / path, digest)
        back = tmp_path / "back" / str(version.version)
        assert (back / "MLmodel").is_file()
        Student.load(folder).verify(back / "artifacts" / "student")


def another(student: Path, folder: Path) -> Path:
    shutil.copytree(student, folder)
    record = folder / Student.FILE
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seed": 77}))
    return folder
