"""Readiness: one round of checks at a time, shared, and an answer in time whatever hangs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from services.dripping import Dripping
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import StorageError
from sidlsg.webhooks import service as ready
from sidlsg.webhooks.service import Readiness


def failing(error: Exception):
    def check() -> None:
        raise error

    return check


async def together(readiness: Readiness, count: int) -> list[dict[str, str]]:
    return await asyncio.gather(*(readiness.missing() for _ in range(count)))


def test_what_is_missing_is_named_with_its_reason():
    readiness = Readiness({"a": lambda: None, "b": failing(StorageError("away")), "c": failing(OSError(28, "full"))})
    assert asyncio.run(readiness.missing()) == {"b": "away", "c": "OSError"}


def test_all_who_ask_at_once_share_one_round_and_a_new_one_is_made_later(monkeypatch):
    rounds: list[float] = []
    readiness = Readiness({"a": lambda: (rounds.append(time.monotonic()), time.sleep(0.1))})

    async def ask() -> None:
        assert await together(readiness, 20) == [{}] * 20
        assert len(rounds) == 1
        monkeypatch.setattr(ready, "_FRESH_S", 0.0)
        await together(readiness, 20)
        assert len(rounds) == 2

    asyncio.run(ask())


def test_an_answer_comes_in_time_whatever_hangs_and_too_many_do_not_wait(monkeypatch):
    monkeypatch.setattr(ready, "TOTAL_S", 0.3)
    over = threading.Event()
    rounds: list[int] = []
    readiness = Readiness({"a": lambda: (rounds.append(1), over.wait(10))})

    async def ask() -> None:
        began = time.monotonic()
        answers = await together(readiness, ready._MOST + 5)
        assert answers[: ready._MOST] == [{"checks": "no answer within 0.3 s"}] * ready._MOST
        assert [list(answer) for answer in answers[ready._MOST :]] == [["checks"]] * 5
        assert await readiness.missing() == {"checks": "no answer within 0.3 s"}
        assert time.monotonic() - began < 5
        over.set()

    asyncio.run(ask())
    assert rounds == [1]


@pytest.mark.parametrize("begins", [None, "", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"])
def test_a_server_that_hangs_or_drips_is_missing(monkeypatch, begins):
    monkeypatch.setattr(ready, "CHECK_S", 0.4)
    with Dripping(begins) as server:
        readiness = Readiness({"mlflow": lambda: connect(server.address), "other": lambda: None})
        (name,), (why,) = zip(*asyncio.run(readiness.missing()).items(), strict=True)
    assert name == "mlflow"
    assert "did not answer in full within 0.4 s" in why
