"""The queue: order, failures, its limit, and an end that comes in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from sidlsg.registry.tracking.sender import Sender


class Server:
    """Takes entries when it is up, and holds whoever asks while it hangs."""

    def __init__(self) -> None:
        self.up, self.tries, self.got = True, 0, []
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, entries: list[int]) -> None:
        self.tries += 1
        self.answers.wait()
        if not self.up:
            raise ConnectionError("no route\nto the server")
        self.got += entries


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def reports() -> list[str]:
    return []


def waited_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_entries_arrive_in_order(server: Server, reports: list[str]):
    sender = Sender(server, reports.append)
    for number in range(1000):
        sender.put(number)
    assert sender.close([1000], 30) == 0
    assert server.got == list(range(1001))
    assert reports == []


def test_a_failure_is_retried_and_reported_once(server: Server, reports: list[str]):
    server.up = False
    sender = Sender(server, reports.append, first_pause=0.01)
    sender.put(1)
    waited_for(lambda: server.tries >= 3)
    sender.put(2)
    assert server.got == []
    server.up = True
    waited_for(lambda: server.got == [1, 2])
    assert sender.close([], 30) == 0
    assert reports == [
        "MLflow takes nothing now (no route); the training continues, and what MLflow misses is sent later",
        "MLflow answers again",
    ]


def test_pauses_grow(server: Server, reports: list[str]):
    server.up = False
    sender = Sender(server, reports.append, first_pause=0.1)
    sender.put(1)
    time.sleep(1.2)
    # At 0, 0.1, 0.3 and 0.7 s; without growth there would be a dozen.
    assert 2 <= server.tries <= 5
    sender.close([], 0)


def test_a_full_queue_drops_new_entries(server: Server, reports: list[str]):
    server.up = False
    sender = Sender(server, reports.append, limit=3, first_pause=0.01)
    for number in range(5):
        sender.put(number)
    server.up = True
    waited_for(lambda: server.got == [0, 1, 2])
    assert sender.close([9], 30) == 2
    assert server.got == [0, 1, 2, 9]


def test_a_server_that_hangs_holds_nobody(server: Server, reports: list[str]):
    server.answers.clear()
    sender = Sender(server, reports.append)
    began = time.monotonic()
    for number in range(3):
        sender.put(number)
    assert sender.close([3], 0.2) == 4
    assert time.monotonic() - began < 5
    server.answers.set()


def test_a_server_that_stays_away_is_given_up(server: Server, reports: list[str]):
    server.up = False
    sender = Sender(server, reports.append, first_pause=0.01)
    sender.put(1)
    assert sender.close([2], 0.3) == 2
    tries = server.tries
    time.sleep(0.1)
    assert server.tries <= tries + 1
    assert len(reports) == 1


def test_a_server_that_comes_back_before_the_end_gets_all(server: Server, reports: list[str]):
    server.up = False
    # A pause that would outlast the test, were it not cut short at the end.
    sender = Sender(server, reports.append, first_pause=0.3)
    sender.put(1)
    waited_for(lambda: reports)
    threading.Timer(0.5, lambda: setattr(server, "up", True)).start()
    assert sender.close([2], 30) == 0
    assert server.got == [1, 2]
