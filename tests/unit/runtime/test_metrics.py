"""Where metrics go, what is wrong with a place, and that a gateway which is away stops nobody."""

from __future__ import annotations

import socket
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.metrics import Destinations, Pusher, destinations, served
from unit.registry.tracking.gateway import Gateway


def waited_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("seen", "Things seen", registry=registry).inc(3)
    return registry


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_by_default_they_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert destinations({}) == destinations({"SIDLSG_METRICS_PORT": "", "SIDLSG_PUSHGATEWAY": " "}) == Destinations()


def test_both_places_can_be_given() -> None:
    given = {"SIDLSG_METRICS_PORT": "9464", "SIDLSG_PUSHGATEWAY": "https://metrics.example/push/"}
    assert destinations(given) == Destinations(port=9464, gateway="https://metrics.example/push")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "9464.0", "http", "٣"])
def test_an_invalid_port_is_refused(port: str) -> None:
    with pytest.raises(InputError, match=r"SIDLSG_METRICS_PORT is .*give a whole number from 1 to 65535"):
        destinations({"SIDLSG_METRICS_PORT": port})


@pytest.mark.parametrize(
    "gateway", ["pushgateway:9091", "ftp://gateway", "http://", "http://gateway:port", "http://g/?x=1", "http://a b"]
)
def test_an_invalid_address_is_refused(gateway: str) -> None:
    with pytest.raises(InputError, match="give one such as http://pushgateway:9091"):
        destinations({"SIDLSG_PUSHGATEWAY": gateway})


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="holds a user or a password") as caught:
        destinations({"SIDLSG_PUSHGATEWAY": "http://me:secret@gateway:9091"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("SIDLSG_METRICS_PORT", "9464"), ("SIDLSG_PUSHGATEWAY", "http://gateway:9091")]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InputError, match=rf"which {name} needs; pip install 'sidlsg\[metrics\]'"):
        destinations({name: value})


def test_they_are_served_while_the_block_runs(registry: CollectorRegistry, port: int) -> None:
    with served(registry, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"seen_total 3.0" in answer.read()
        taken = f"SIDLSG_METRICS_PORT is {port}.*Address already in use; give a free"
        with pytest.raises(InputError, match=taken), served(registry, port):
            pass
    # The port is free again.
    with served(registry, port):
        pass


def test_they_are_pushed_now_and_then_and_at_the_end(registry: CollectorRegistry) -> None:
    said: list[str] = []
    with Gateway() as gateway:
        pusher = Pusher(registry, gateway.address, {"run": "", "training": "tiny-0"}, said.append, every=0.02)
        waited_for(lambda: gateway.asked > 2)
        registry.collect()
        Counter("late", "Made last", registry=registry)
        pusher.close()
        count = gateway.asked
        # An empty value is spelled in base64.
        assert list(gateway.groups) == ["/metrics/job/sidlsg-training/run@base64/=/training/tiny-0"]
        assert "late_total 0.0" in gateway.groups.popitem()[1]
        time.sleep(0.1)
        assert gateway.asked == count
    assert said == []


def test_an_unreachable_gateway_is_reported_once_and_retried(registry: CollectorRegistry) -> None:
    said: list[str] = []
    with Gateway() as gateway:
        gateway.away = True
        pusher = Pusher(registry, gateway.address, {"run": "7"}, said.append, every=0.02)
        waited_for(lambda: gateway.asked > 3)
        assert len(said) == 1
        assert said[0].startswith(f"the Pushgateway at {gateway.address} takes no metrics now (HTTP Error 503")
        gateway.away = False
        waited_for(lambda: gateway.groups)
        pusher.close()
    assert said[1:] == ["the Pushgateway takes metrics again"]


def test_a_missing_gateway_does_not_stop_the_training(registry: CollectorRegistry, port: int) -> None:
    said: list[str] = []
    pusher = Pusher(registry, f"http://127.0.0.1:{port}", {"run": "7"}, said.append)
    pusher.close()
    assert len(said) == 1
    assert "Connection refused" in said[0]
