"""The steps of a rollout on an emulated cluster; the smoke evaluation of real servers is in tests/services."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest

from services.kserve_api import NAME, KServe
from services.kubernetes_api import NAMESPACE, RunningApi
from sidlsg.runtime.errors import InputError, StorageError
from sidlsg.webhooks import rollout as module
from sidlsg.webhooks.copies import FinishedCopy
from sidlsg.webhooks.ledger import DONE, WANTED, Cause, Ledger
from sidlsg.webhooks.rollout import (
    PREVIOUS,
    REFUSED,
    ROLLOUT,
    SINCE,
    Rollout,
    first_of_each_service,
    rolled_back,
)
from sidlsg.webhooks.rules import Serve

OLD, NEW = "s3://serving/students/m/1-a", "s3://serving/students/m/2-b"
TARGET = Serve(to="s3://serving/students", service=NAME, ready_minutes=5.0)
Make = Callable[..., Rollout]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    with RunningApi(tmp_path, KServe) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield running


@pytest.fixture
def api(running: RunningApi) -> KServe:
    assert isinstance(running.api, KServe)
    running.api.addresses = {OLD: "http://old", NEW: "http://new"}
    return running.api


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the smoke evaluation comes to, to be changed."""
    verdict = [""]
    monkeypatch.setattr(module, "smoke", lambda *_: verdict[0])
    return verdict


@pytest.fixture
def make(api: KServe, verdict: list[str]) -> Make:
    assert api.patches == [] and verdict

    def make(uri: str = NEW, cause: str = "c1", target: Serve = TARGET, is_current: bool = True) -> Rollout:
        return Rollout(cause, target, FinishedCopy(uri=uri, sha256="d"), lambda: is_current)

    return make


def finished(make: Callable[[], Rollout]) -> str:
    """What comes of a rollout whose every step is another process'."""
    for _ in range(40):
        rollout = make()
        result = rollout.step()
        # The evaluation is this process' own, and ends soon.
        while result is None and rollout._smoke._outcome is not None:
            wait([rollout._smoke._outcome])
            result = rollout.step()
        if result is not None:
            return result
    raise AssertionError("the rollout does not end")


def serve_old(api: KServe, make: Make) -> None:
    assert finished(lambda: make(OLD, "c0")) == f"{OLD} is served"
    api.patches.clear()


def test_a_good_canary_gets_all_traffic(api: KServe, make: Make) -> None:
    serve_old(api, make)
    assert finished(make) == f"{NEW} is served"
    canary, promoted = api.patches
    assert canary["spec"]["predictor"] == {"canaryTrafficPercent": 10, "model": {"storageUri": NEW}}
    assert (canary["metadata"]["annotations"][ROLLOUT], canary["metadata"]["annotations"][PREVIOUS]) == ("c1", OLD)
    # No annotation changes, so KServe makes no new revision.
    assert (
        promoted["spec"] == {"predictor": {"canaryTrafficPercent": None}} and "annotations" not in promoted["metadata"]
    )
    assert len(api._revisions) == 3
    assert finished(make) == f"{NEW} is served"
    assert finished(lambda: make(NEW, "c2")) == f"{NEW} was served already"
    assert len(api.patches) == 2


def test_a_refused_canary_never_gets_more_traffic(api: KServe, make: Make, verdict: list[str]) -> None:
    serve_old(api, make)
    verdict[0] = "it serves another copy"
    assert finished(make) == f"rolled back to {OLD}: it serves another copy"
    canary, back, restored = api.patches
    assert back["spec"]["predictor"] == {"canaryTrafficPercent": 0, "model": {"storageUri": OLD}}
    assert back["metadata"]["annotations"][REFUSED] == "it serves another copy"
    assert restored["spec"] == {"predictor": {"canaryTrafficPercent": None}}
    assert (api.most[NEW], api.uri) == (10, OLD)
    assert finished(make) == f"rolled back to {OLD}: it serves another copy"
    assert canary["metadata"]["resourceVersion"] != back["metadata"]["resourceVersion"]
    verdict[0] = ""
    assert finished(lambda: make(NEW, "c2")) == f"{NEW} is served"


def test_a_canary_that_is_not_ready_in_time_is_taken_back(api: KServe, make: Make) -> None:
    serve_old(api, make)
    del api.addresses[NEW]
    for _ in range(5):
        assert make().step() is None
    assert len(api.patches) == 1
    age(api)
    assert finished(make) == f"rolled back to {OLD}: no canary is ready after 5 minutes"
    assert NEW not in api.most


def age(api: KServe) -> None:
    """Let ten minutes pass since storageUri was changed."""
    then = f"{time.time() - 600:.0f}"
    api.service()["metadata"]["annotations"][SINCE] = then
    api._revisions[-1]["template"][1][SINCE] = then  # the same revision


def test_a_restored_revision_that_does_not_get_ready_leaves_the_traffic_where_it_is(
    api: KServe, make: Make, verdict: list[str]
) -> None:
    serve_old(api, make)
    verdict[0] = "flagged"
    rollout = make()
    while len(api.patches) < 2:
        assert rollout.step() is None
    before = api.addresses.pop(OLD)
    assert make().step() is None
    age(api)
    assert "so all traffic stays on the one before" in str(make().step())
    api.addresses[OLD], verdict[0] = before, ""
    assert finished(lambda: make(NEW, "c2")) == f"{NEW} is served"
    assert api.patches[2]["metadata"]["annotations"][PREVIOUS] == OLD


def test_where_nothing_was_served_before_there_is_nothing_to_go_back_to(
    api: KServe, make: Make, verdict: list[str]
) -> None:
    verdict[0] = "flagged"
    assert finished(make) == "rolled back to nothing: flagged"
    assert (len(api.patches), api.uri) == (2, "")


def test_a_version_that_is_no_champion_any_more_is_taken_back(api: KServe, make: Make) -> None:
    serve_old(api, make)
    assert make().step() is None
    result = finished(lambda: make(is_current=False))
    assert result == f"rolled back to {OLD}: the alias points to another version now"


def test_what_another_rollout_left_unfinished_is_not_what_was_served(api: KServe, make: Make) -> None:
    serve_old(api, make)
    assert make(NEW, "abandoned").step() is None
    third = "s3://serving/students/m/3-c"
    api.addresses[third] = "http://third"
    assert finished(lambda: make(third, "c2")) == f"{third} is served"
    assert api.patches[1]["metadata"]["annotations"][PREVIOUS] == OLD


def test_somebody_elses_change_is_left_alone(api: KServe, make: Make) -> None:
    serve_old(api, make)
    assert make().step() is None
    api.service()["spec"]["predictor"]["model"]["storageUri"] = "s3://by-hand"
    assert make().step() == "left alone: somebody set storageUri to 's3://by-hand' meanwhile"


def test_a_patch_of_an_object_that_changed_meanwhile_is_made_anew(
    api: KServe, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_old(api, make)
    rollout = make()
    state = module.State.of(api.service())
    api.service()["metadata"]["resourceVersion"] = "another"
    monkeypatch.setattr(module.State, "of", lambda _: state)
    assert rollout.step() is None and api.patches == []


def test_a_server_that_does_not_answer_yet_is_asked_until_the_time_is_over(
    api: KServe, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_old(api, make)

    def away(*_: object) -> str:
        raise StorageError("no answer")

    monkeypatch.setattr(module, "smoke", away)
    with pytest.raises(StorageError, match="no answer"):
        finished(make)
    assert len(api.patches) == 1
    age(api)
    assert finished(make) == f"rolled back to {OLD}: no answer"


def test_an_inference_service_that_cannot_be_used_is_one_line(api: KServe, make: Make, running: RunningApi) -> None:
    missing = TARGET.model_copy(update={"service": "other"})
    with pytest.raises(InputError, match="there is no InferenceService 'other' in namespace team; apply infra/"):
        make(target=missing).step()
    del api.service()["metadata"]["annotations"]["serving.kserve.io/enable-tag-routing"]
    with pytest.raises(InputError, match="lacks the annotation serving"):
        make().step()
    api.refusals["PATCH", "inferenceservices"] = (403, 'User "x" cannot patch resource "inferenceservices"')
    api.service()["metadata"]["annotations"]["serving.kserve.io/enable-tag-routing"] = "true"
    with pytest.raises(InputError, match="these rights: inferenceservices"):
        make().step()
    assert running.kubeconfig.exists() and api.service()["metadata"]["namespace"] == NAMESPACE


def cause(name: str, service: str = NAME) -> Cause:
    wanted = {"model": "m", "version": "1", "alias": "champion", "to": "s3://b", "namespace": "", "service": service}
    return Cause(name=name, rule="r", what=name, action={"serve": wanted})


def test_rollouts_on_one_service_come_one_after_another_and_others_do_not_wait() -> None:
    run = Cause(name="run", rule="r", what="w", action={"run": {}})
    found = first_of_each_service([cause("a"), cause("b"), run, cause("c", "other")])
    assert [each.name for each in found] == ["a", "run", "c"]


def test_the_last_rollout_of_each_service_says_whether_it_was_rolled_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for number, (one, result) in enumerate(
        [
            (cause("a"), "rolled back to x: why"),
            (cause("b", "other"), "rolled back to y: why"),
            (cause("c"), "z is served"),
        ]
    ):
        ledger.add([one], float(number), WANTED)
        ledger.done(one.name, result)
    ledger.add([cause("d", "other")], 9.0, WANTED)
    assert [state for _, state, _, _ in ledger.causes()] == [DONE, DONE, DONE, WANTED]
    assert rolled_back(ledger) == {"b": "rolled back to y: why"}
