"""Claims: one change of a model's aliases at a time, and none that blocks for good."""

from __future__ import annotations

import time
from threading import Timer

import pytest

from sidlsg.errors import InputError
from sidlsg.registry.claims import LEASE_S, claimed
from sidlsg.registry.connect import connect


@pytest.fixture
def client(tracking_uri):
    return connect(tracking_uri, create=True)


@pytest.fixture
def name(client, request) -> str:
    name = f"claimed-{request.node.name}"
    client.create_registered_model(name)
    return name


def test_a_second_cause_waits_and_is_told_who_is_there(client, name):
    with claimed(client, name, "promotion of version 1"):
        told = r"@.* is changing the aliases of .*\(promotion of version 1\); run this"
        with pytest.raises(InputError, match=told), claimed(client, name, "promotion of version 2"):
            pass
    with claimed(client, name, "promotion of version 2") as claim:
        assert claim.title == "1.1"  # nothing was made by the first


def test_what_was_made_is_counted(client, name):
    for number in (1, 2, 3):
        with claimed(client, name, f"cause {number}") as claim:
            assert claim.title == f"{number}.0"
            claim.made()


def test_the_same_cause_waits_for_the_end_of_the_other(client, name):
    order = []
    first = claimed(client, name, "cause")
    claim = first.__enter__()

    def end() -> None:
        claim.made()
        order.append("made")
        first.__exit__(None, None, None)

    timer = Timer(1.0, end)
    timer.start()
    with claimed(client, name, "cause") as second:
        order.append(second.title)
    timer.join()
    assert order == ["made", "2.0"]


def test_a_claim_of_a_killed_program_ends(client, name):
    killed = claimed(client, name, "killed")
    killed.__enter__()
    soon = claimed(client, name, "next", clock=lambda: time.time() + LEASE_S - 30)
    with pytest.raises(InputError, match="is changing"), soon:
        pass
    with claimed(client, name, "next", clock=lambda: time.time() + LEASE_S + 1) as claim:
        assert claim.title == "1.1"


def test_a_claim_that_was_ended_moves_nothing(client, name):
    with claimed(client, name, "cause") as claim:
        claim.end()
        with pytest.raises(InputError, match="nothing moved; run it again"):
            claim.check()


def test_a_claim_that_took_too_long_moves_nothing(client, name, monkeypatch):
    with claimed(client, name, "cause") as claim:
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + LEASE_S)
        with pytest.raises(InputError, match="took too long"):
            claim.check()
