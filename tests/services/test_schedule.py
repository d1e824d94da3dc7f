"""Recurring runs become what a file declares, and two of one schedule are never active."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.kfp_server import KfpServer
from services.test_submit import FAULTS, YAML, draw, kubeflow
from sidlsg.cli.catalog import get_compiled
from sidlsg.kubeflow.server.connection import Client
from sidlsg.kubeflow.server.schedules import Schedules, difference, read_schedules, synchronise

TABLE = """
[[schedule]]
name = "{name}"
pipeline = "tiny.yaml"
cron = "0 3 * * mon"
time_zone = "UTC"
parameters = {{ seed = {seed} }}
enabled = {enabled}
"""


class Killed(BaseException):
    """Stands for the end of the process, where it is raised."""


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    """A server that holds, in the same experiment, a recurring run of the same name that is someone else's."""
    with KfpServer() as server:
        _, experiment = server.add("experiments", {"display_name": "exp"})
        made = {"display_name": "nightly", "description": "by hand", "status": "ENABLED"}
        _, theirs = server.add("recurringruns", made | {"experiment_id": experiment["experiment_id"]})
        before, most = dict(theirs), Counter[str]()

        def look() -> None:
            active = Counter(each["display_name"] for each in ours(server) if each["status"] == "ENABLED")
            most.update(active - most)

        server.look = look
        yield server
        assert set(most.values()) == {1}
        assert server.lists["recurringruns"][0] == before
        assert len(server.lists["versions"]) == len(server.lists["experiments"]) == 1
        assert not server.wrong


def ours(kfp: KfpServer) -> list[dict[str, Any]]:
    return [each for each in kfp.lists["recurringruns"] if each.get("description") != "by hand"]


def seeds(kfp: KfpServer) -> dict[str, tuple[int, str]]:
    """What each recurring run starts and whether it does, by name; there is one of each."""
    found = ours(kfp)
    assert len({each["display_name"] for each in found}) == len(found)
    return {each["display_name"]: (each["runtime_config"]["parameters"]["seed"], each["status"]) for each in found}


def declare(folder: Path, *schedules: tuple[str, int], enabled: bool = True) -> Schedules:
    """Read a file that declares schedules by name and seed."""
    (folder / "tiny.yaml").write_text(YAML)
    tables = [TABLE.format(name=name, seed=seed, enabled=str(enabled).lower()) for name, seed in schedules]
    (folder / "schedules.toml").write_text('experiment = "exp"\n' + "".join(tables))
    return read_schedules(folder / "schedules.toml", get_compiled)


def apply(kfp: KfpServer, declared: Schedules) -> list[str]:
    """Make the changes; gives their kinds."""
    server = kubeflow(kfp.host).server
    changes = difference(server, declared)
    synchronise(server, declared, changes, lambda _: None)
    return [change.kind for change in changes]


def test_the_server_follows_the_file(kfp: KfpServer, tmp_path: Path) -> None:
    assert apply(kfp, declare(tmp_path, ("nightly", 1), ("weekly", 2))) == ["create", "create"]
    assert seeds(kfp) == {"nightly": (1, "ENABLED"), "weekly": (2, "ENABLED")}
    assert ours(kfp)[0]["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * mon"
    assert (ours(kfp)[0]["max_concurrency"], ours(kfp)[0]["no_catchup"]) == ("1", True)
    assert apply(kfp, declare(tmp_path, ("nightly", 3), ("weekly", 2))) == ["update", "unchanged"]
    assert apply(kfp, declare(tmp_path, ("nightly", 3), enabled=False)) == ["disable", "delete"]
    assert seeds(kfp) == {"nightly": (3, "DISABLED")}
    assert apply(kfp, declare(tmp_path, ("nightly", 3))) == ["enable"]
    assert seeds(kfp) == {"nightly": (3, "ENABLED")}
    requests = len(kfp.requests)
    assert apply(kfp, declare(tmp_path, ("nightly", 3))) == ["unchanged"]
    assert all(request.startswith("GET") for request in kfp.requests[requests:])


@pytest.mark.parametrize("rounds", [12, pytest.param(120, marks=pytest.mark.long)])
def test_a_hundred_faults_leave_one_active_recurring_run(kfp: KfpServer, tmp_path: Path, rounds: int) -> None:
    chance = random.Random(1)
    for seed in range(rounds):
        kfp.faults = draw(chance, 30)
        apply(kfp, declare(tmp_path, ("nightly", seed), ("weekly", seed // 2)))
        kfp.faults = []
        assert seeds(kfp) == {"nightly": (seed, "ENABLED"), "weekly": (seed // 2, "ENABLED")}
    assert kfp.happened.total() >= 100 * rounds // 12
    assert set(kfp.happened) == set(FAULTS)


@pytest.mark.parametrize("sent", [False, True])
def test_an_update_killed_at_any_request_is_finished_by_the_next_call(
    kfp: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    call, left = Client.call_api, 0

    def killed(client: Client, *arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and sent:
            call(client, *arguments, **named)
        if left == 0:
            raise Killed
        return call(client, *arguments, **named)

    monkeypatch.setattr(Client, "call_api", killed)
    apply(kfp, declare(tmp_path, ("nightly", 0), ("old", 0)))
    kills = 0
    while left <= 0:  # else a whole update took fewer requests than the kill waits for
        kills += 1
        declared, left = declare(tmp_path, ("nightly", kills), ("new", kills)), kills
        try:
            apply(kfp, declared)
        except Killed:
            apply(kfp, declared)
            assert seeds(kfp) == {"nightly": (kills, "ENABLED"), "new": (kills, "ENABLED")}
    assert kills > 10
