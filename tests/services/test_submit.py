"""Runs are started once, whatever happens on the way to the server."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.kfp_server import KfpServer
from sidlsg.kubeflow.compile import CompiledPipeline, read_compiled
from sidlsg.kubeflow.server.connection import Connection, PipelinesServer, ServerTimeouts
from sidlsg.kubeflow.server.runs import Kubeflow
from sidlsg.kubeflow.server.submission import submit, watch
from sidlsg.runtime.errors import InputError, RunFailedError, StorageError

YAML = """
pipelineInfo: {name: tiny}
root:
  inputDefinitions:
    parameters: {seed: {parameterType: NUMBER_INTEGER, defaultValue: 0}}
"""
FAULTS = {
    "500": 4,
    "429": 4,
    "reset": 4,
    "truncated": 4,
    "stall": 1,
    "500-after": 4,
    "reset-after": 4,
    "truncated-after": 4,
    "stall-after": 1,
}
"""How often each is drawn; a stall costs SILENCE."""
SILENCE = 0.4
"""Seconds after which the tests' client gives up."""


@pytest.fixture
def compiled(tmp_path: Path) -> CompiledPipeline:
    (tmp_path / "tiny.yaml").write_text(YAML)
    return read_compiled(tmp_path / "tiny.yaml")


def kubeflow(host: str, **named: object) -> Kubeflow:
    patience = ServerTimeouts(total=60, first=0.001, longest=0.002)
    connection = Connection(host=host, timeouts=(10, SILENCE), **named)  # type: ignore[arg-type]
    return Kubeflow(PipelinesServer(connection, patience), "exp")


def draw(chance: random.Random, count: int) -> list[str]:
    """What happens to the next requests: three of five go wrong."""
    faults = chance.choices(list(FAULTS), list(FAULTS.values()), k=count)
    return [fault if chance.random() < 0.6 else "" for fault in faults]


@pytest.mark.parametrize("rounds", [16, pytest.param(160, marks=pytest.mark.long)])
def test_a_hundred_faults_start_one_run_of_each_name(compiled: CompiledPipeline, rounds: int) -> None:
    chance = random.Random(0)
    names = [f"run-{number}" for number in range(rounds)]
    with KfpServer() as server:
        for number, name in enumerate(names):
            server.faults = draw(chance, 20)
            states = [submit(kubeflow(server.host), compiled, name, {"seed": number}, print) for _ in range(2)]
            assert states[0].run_id == states[1].run_id
        assert server.happened.total() >= 100 * rounds // 16
        assert set(server.happened) == set(FAULTS)
        assert [run["display_name"] for run in server.runs] == names
        assert [run["runtime_config"]["parameters"] for run in server.runs] == [{"seed": n} for n in range(rounds)]
        assert [len(server.lists[kind]) for kind in ("versions", "pipelines", "experiments")] == [1, 1, 1]
        assert not server.wrong


def test_whoever_slept_between_looking_and_starting_ends_its_own_run(
    compiled: CompiledPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KfpServer() as server:
        sleeper, other = kubeflow(server.host), kubeflow(server.host)
        create, states = sleeper.server.runs.run_service_create_run, []

        def after_sleep(body: object) -> object:
            states.append(submit(other, compiled, "same", {}, print))
            return create(body)

        monkeypatch.setattr(sleeper.server.runs, "run_service_create_run", after_sleep)
        states.append(submit(sleeper, compiled, "same", {}, print))
        first, second = server.runs
        assert {state.run_id for state in states} == {first["run_id"]}
        assert (first["state"], second["state"]) == ("PENDING", "CANCELED")
        assert not server.wrong


def test_each_request_may_be_lost_before_or_after_it_is_carried_out(compiled: CompiledPipeline) -> None:
    with KfpServer() as server:
        submit(kubeflow(server.host), compiled, "counted", {}, print)
        count = len(server.requests)
    for fault in ("reset", "reset-after"):
        for at in range(count):
            with KfpServer() as server:
                server.faults = [*[""] * at, fault]
                submit(kubeflow(server.host), compiled, "one", {}, print)
                assert server.happened == {fault: 1}
                assert [len(each) for each in server.lists.values()] == [1, 0, 1, 1, 1]
                assert not server.wrong


def test_other_content_is_another_version(compiled: CompiledPipeline, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(YAML.replace("defaultValue: 0", "defaultValue: 1"))
    commented = tmp_path / "commented.yaml"
    commented.write_text(f"# a comment\n{YAML}")
    with KfpServer() as server:
        for number, each in enumerate([compiled, read_compiled(changed), read_compiled(commented)]):
            submit(kubeflow(server.host), each, f"run-{number}", {}, print)
        used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.runs]
        assert len(server.lists["versions"]) == 2
        assert used[0] == used[2] != used[1]
        assert not server.wrong


def test_things_are_found_behind_the_first_page(compiled: CompiledPipeline) -> None:
    with KfpServer(page=1) as server:
        for _ in range(2):
            for number in range(4):
                text = YAML.replace("defaultValue: 0", f"defaultValue: {number}")
                each = CompiledPipeline(
                    name=compiled.name, text=text, parameters=compiled.parameters, version=f"v{number}"
                )
                submit(kubeflow(server.host), each, f"run-{number}", {}, print)
        assert [run["display_name"] for run in server.runs] == [f"run-{number}" for number in range(4)]
        assert len(server.lists["versions"]) == 4
        assert kubeflow(server.host).start("newest", "tiny", "", {}).name == "newest"
        newest = server.lists["versions"][-1]["pipeline_version_id"]
        assert server.runs[-1]["pipeline_version_reference"]["pipeline_version_id"] == newest


def test_a_namespace_is_named_where_a_server_has_them(compiled: CompiledPipeline) -> None:
    with KfpServer(namespaces=True) as server:
        for namespace in ("one", "two"):
            submit(kubeflow(server.host, namespace=namespace), compiled, "run", {}, print)
        assert [each["namespace"] for each in server.lists["pipelines"]] == ["one", "two"]
        assert len(server.runs) == 2
        assert not server.wrong


def test_faults_that_go_on_end_in_one_message(compiled: CompiledPipeline) -> None:
    with KfpServer() as server:
        server.faults = ["500"] * 10_000
        runs = Kubeflow(PipelinesServer(Connection(host=server.host), ServerTimeouts(total=0.2, first=0.01)), "exp")
        with pytest.raises(StorageError, match=r"did not list runs \(HTTP 500\).*the same command again"):
            submit(runs, compiled, "run", {}, print)


def test_a_run_of_what_the_server_lacks_is_refused(compiled: CompiledPipeline) -> None:
    with KfpServer() as server:
        with pytest.raises(InputError, match="has no pipeline 'tiny'; upload it"):
            kubeflow(server.host).start("run", "tiny", "", {})
        submit(kubeflow(server.host), compiled, "first", {}, print)
        with pytest.raises(InputError, match="pipeline tiny has no version 'v1'"):
            kubeflow(server.host).start("run", "tiny", "v1", {})
        assert len(server.runs) == 1


def test_a_server_says_whether_it_is_ready() -> None:
    with KfpServer(token="right") as server, pytest.raises(InputError, match="401"):
        kubeflow(server.host).ready()
    with KfpServer() as server:
        kubeflow(server.host).ready()
        assert server.requests[0] == "GET /apis/v2beta1/healthz"
        assert not server.wrong


def test_a_failed_run_names_its_stage_and_why(compiled: CompiledPipeline) -> None:
    with KfpServer() as server:
        server.states = ["PENDING", "RUNNING", "FAILED"]
        runs, lines = kubeflow(server.host), []
        run = submit(runs, compiled, "bad", {}, print)
        with pytest.raises(RunFailedError, match=r"distil \(out of memory\)"):
            watch(runs, run.run_id, lines.append, every=0.01)
        assert "distil: running" in lines


def test_a_token_is_needed_and_followed_when_its_file_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    with KfpServer(token="new") as server:
        runs = kubeflow(server.host, token_file=token)
        with pytest.raises(InputError, match="401") as caught:
            runs.find("x")
        assert "old" not in str(caught.value)
        token.write_text("new")
        assert runs.find("x") is None
