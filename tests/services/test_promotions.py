"""Promotions at once, on an MLflow server with PostgreSQL behind it: one wins, the other says why."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier

import pytest
from mlflow import MlflowClient

from services.verdicts import leave, verdict
from sidlsg.registry.connection import connect
from sidlsg.registry.promotion import promote as stage
from sidlsg.registry.promotion import rollback
from sidlsg.registry.server.stack import Stack
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Promotion, Verdict


def promote(verdict: Verdict, tracking_uri: str) -> Promotion:
    """The stage, after the gate has left a verdict that passed on the version."""
    leave(verdict, connect(tracking_uri))
    return stage(verdict, tracking_uri)


@pytest.fixture
def tracking_uri(servers: Stack) -> str:
    return servers.mlflow.address


def model(client: MlflowClient, versions: int) -> str:
    name = f"raced-{secrets.token_hex(6)}"
    client.create_registered_model(name)
    run = client.create_run("0").info
    for _ in range(versions):
        client.create_model_version(name, source=f"{run.artifact_uri}/model", run_id=run.run_id)
    return name


def at_once(*calls: Callable[[], Promotion]) -> list[Promotion | InputError]:
    """What each call gave or raised, all of them begun together."""
    ready = Barrier(len(calls))

    def run(call: Callable[[], Promotion]) -> Promotion | InputError:
        ready.wait()
        try:
            return call()
        except InputError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.long)])
def test_of_two_promotions_at_once_one_wins(tracking_uri: str, rounds: int) -> None:
    client = connect(tracking_uri)
    reasons: dict[str, int] = {}
    for _ in range(rounds):
        name = model(client, 3)
        promote(verdict(name, 1, None), tracking_uri)
        found = at_once(*(partial(promote, verdict(name, version, 1), tracking_uri) for version in (2, 3)))
        (won,) = [outcome for outcome in found if isinstance(outcome, Promotion)]
        (lost,) = [outcome for outcome in found if isinstance(outcome, InputError)]
        assert won.changed
        aliases = client.get_registered_model(name).aliases
        assert {alias: int(version) for alias, version in aliases.items()} == {
            "champion": won.champion_version,
            "previous": 1,
        }
        is_busy, is_late = "is at work on" in str(lost), "run the gate again" in str(lost)
        assert is_busy or is_late, lost
        reasons["busy" if is_busy else "late"] = reasons.get("busy" if is_busy else "late", 0) + 1
        # Nothing stays in the way: the loser is compared again, and promoted.
        loser = 5 - int(won.champion_version or 0)
        assert promote(verdict(name, loser, won.champion_version), tracking_uri).champion_version == loser
    print(reasons)  # noqa: T201 - says how they lost


def test_a_promotion_and_a_rollback_at_once_leave_two_aliases_that_one_of_them_made(tracking_uri: str) -> None:
    client = connect(tracking_uri)
    for _ in range(5):
        name = model(client, 3)
        promote(verdict(name, 1, None), tracking_uri)
        promote(verdict(name, 2, 1), tracking_uri)
        found = at_once(
            partial(promote, verdict(name, 3, 2), tracking_uri), partial(rollback, tracking_uri, name, "a test")
        )
        made = [outcome for outcome in found if isinstance(outcome, Promotion) and outcome.changed]
        assert made
        aliases = {a: int(v) for a, v in client.get_registered_model(name).aliases.items()}
        ends = [{"champion": one.champion_version, "previous": one.previous_version} for one in made]
        # Where both were done, one after the other, the rollback took the promotion back.
        assert aliases in ends
        assert aliases["champion"] != aliases["previous"]


def test_the_same_promotion_by_many_is_made_once(tracking_uri: str) -> None:
    client = connect(tracking_uri)
    name = model(client, 2)
    promote(verdict(name, 1, None), tracking_uri)
    # The verdict is left once, and promoted by many.
    leave(verdict(name, 2, 1), client)
    found = at_once(*[partial(stage, verdict(name, 2, 1), tracking_uri)] * 8)
    made = Promotion(name=name, champion_version=2, previous_version=1, changed=True)
    assert found.count(made) == 1
    assert found.count(replace(made, changed=False)) == 7
    assert {a: int(v) for a, v in client.get_registered_model(name).aliases.items()} == {"champion": 2, "previous": 1}
