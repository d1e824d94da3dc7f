"""Locks: one process at a time; others wait or get an error, and a dead holder does not block."""

from __future__ import annotations

import time
from threading import Timer

import pytest

from sidlsg.registry import locks
from sidlsg.registry.locks import FOLDER, locked
from sidlsg.runtime.errors import InputError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(locks, "PATIENCE_S", 1.5)
    monkeypatch.setattr(locks, "_POLL_S", 0.05)


@pytest.fixture
def thing(request) -> str:
    return f"thing {request.node.name}"


def test_the_error_for_another_cause_names_the_holder(client, thing):
    busy = r"@.* is at work on thing .* \(one cause\); run this again when that has ended"
    with locked(client, lambda: thing, "one cause"):
        began = time.monotonic()
        with pytest.raises(InputError, match=busy), locked(client, lambda: thing, "another"):
            pass
        assert time.monotonic() - began < 1.5
    with locked(client, lambda: thing, "another") as lock:
        assert lock.attempt == 1


def test_the_same_cause_waits_for_the_end_of_the_other(client, thing):
    order = []
    first = locked(client, lambda: thing, "cause")
    first.__enter__()

    def end() -> None:
        order.append("first")
        first.__exit__(None, None, None)

    # Longer than others wait for a dead holder; the heartbeat shows that this one lives.
    timer = Timer(2.5, end)
    timer.start()
    with locked(client, lambda: thing, "cause"):
        order.append("second")
    timer.join()
    assert order == ["first", "second"]


def test_what_the_other_did_need_not_be_done_again(client, thing):
    done = []
    first = locked(client, lambda: thing, "cause")
    first.__enter__()

    def end() -> None:
        done.append(True)
        first.__exit__(None, None, None)

    timer = Timer(0.3, end)
    timer.start()
    with locked(client, lambda: None if done else thing, "cause") as lock:
        assert lock is None
    timer.join()


@pytest.mark.parametrize("cause", ["cause", "another"])
def test_a_dead_one_is_not_in_the_way(client, thing, cause):
    # As a killed process leaves it: no beat follows.
    client.create_experiment(f"{FOLDER}/{thing}.0", tags={"cause": "cause", "holder": "ann@there", "beat": "7"})
    began = time.monotonic()
    with locked(client, lambda: thing, cause) as lock:
        assert lock.attempt == 1
        assert time.monotonic() - began >= 1.5
        lock.check()


def test_one_that_was_ended_by_others_goes_no_further(client, thing):
    with locked(client, lambda: thing, "cause") as lock:
        client.delete_experiment(client.get_experiment_by_name(f"{FOLDER}/{thing}.0").experiment_id)
        with pytest.raises(InputError, match="did not hear from this process for too long; run it again"):
            lock.check()


def test_one_that_was_not_heard_goes_no_further(client, thing, monkeypatch):
    with locked(client, lambda: thing, "cause") as lock:
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 60)
        with pytest.raises(InputError, match="did not hear"):
            lock.check()


def test_things_are_apart(client, thing):
    with locked(client, lambda: thing, "one"), locked(client, lambda: f"{thing} too", "another") as lock:
        assert lock.attempt == 0


def test_a_lock_whose_second_check_fails_is_released(client, thing):
    answers = iter([thing, OSError("the network")])

    def look() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with pytest.raises(OSError, match="the network"), locked(client, look, "cause"):
        pass
    began = time.monotonic()
    with locked(client, lambda: thing, "another") as lock:
        assert lock.attempt == 1
    # No heartbeat continues.
    assert time.monotonic() - began < 1.0


def test_a_repeated_request_finds_its_own_lock(client, thing, monkeypatch):
    original = client.create_experiment

    def twice(title: str, tags: dict[str, str]) -> str:
        original(title, tags=tags)
        return original(title, tags=tags)

    monkeypatch.setattr(client, "create_experiment", twice)
    with locked(client, lambda: thing, "cause") as lock:
        assert lock.attempt == 0
