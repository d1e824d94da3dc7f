"""Deliveries: their signatures, and the answers."""

from __future__ import annotations

import json
import time

import pytest
from fastapi.testclient import TestClient
from mlflow.webhooks.delivery import _generate_hmac_signature

from sidlsg.runtime.errors import InputError
from sidlsg.webhooks.ledger import Ledger
from sidlsg.webhooks.receiver import (
    PATH,
    ExpiredError,
    ForgedError,
    Limits,
    Receiver,
    application,
    check_signature,
    signature_of,
)
from sidlsg.webhooks.telemetry import WebhookMetrics

SIGNED = '{"data": "é"}'.encode()
NOW = 1_700_000_000


def check(secrets=("secret",), delivery="id-1", timestamp=str(NOW), signature=None, body=SIGNED, now=NOW):
    signed = signature_of("secret", "id-1", timestamp, SIGNED) if signature is None else signature
    check_signature(secrets, delivery, timestamp, signed, body, now)


def test_signs_as_mlflow_does():
    assert signature_of("secret", "id-1", "17", SIGNED) == _generate_hmac_signature(
        "secret", "id-1", "17", SIGNED.decode()
    )


def test_any_of_the_secrets_in_use_is_good():
    check(secrets=("new", "secret"))


@pytest.mark.parametrize(
    "change",
    [
        {"secrets": ("other",)},
        {"secrets": ()},
        {"delivery": "id-2"},
        {"delivery": "id\n1"},
        {"body": SIGNED + b" "},
        {"signature": ""},
        {"signature": "v1,é"},
        {"timestamp": "-5"},
        {"timestamp": "٣"},
        {"timestamp": "9" * 400},
    ],
)
def test_anything_changed_is_forged(change):
    with pytest.raises(ForgedError):
        check(**change)


@pytest.mark.parametrize("now", [NOW - 301, NOW + 301])
def test_outside_the_window_either_way_is_expired(now):
    with pytest.raises(ExpiredError):
        check(now=now)


@pytest.mark.parametrize("now", [NOW - 300, NOW + 300])
def test_the_edge_of_the_window_is_inside(now):
    check(now=now)


SECRET = "a secret of the tests"
DATA = {"name": "m", "version": "1", "tags": {}}
BODY = json.dumps({"entity": "model_version", "action": "created", "data": DATA}).encode()
LIMITS = Limits(per_minute=1000, per_sender=500, body_bytes=200_000)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def taken():
    return []


async def nothing():
    return {}


def client_of(ledger, taken, limits=LIMITS, missing=nothing, failing=dict):
    metrics = WebhookMetrics()
    receiver = Receiver(ledger, [SECRET, "the secret that was"], metrics, limits, lambda: taken.append(1))
    return TestClient(application(receiver, metrics, missing, failing))


@pytest.fixture
def client(ledger, taken):
    return client_of(ledger, taken)


def send(client, delivery="d1", body=BODY, secret=SECRET, age=0.0, **headers):
    stamp = str(int(time.time() - age))
    signed = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp}
    signed["X-MLflow-Signature"] = signature_of(secret, delivery, stamp, body)
    return client.post(PATH, content=body, headers=signed | headers).status_code


def test_a_delivery_is_taken_once(client, ledger, taken):
    assert [send(client), send(client), send(client, "d2", secret="the secret that was")] == [202, 200, 202]
    assert [len(numbers) for numbers in ledger.events().values()] == [len(taken)] == [2]


def test_an_event_that_no_rule_can_name_is_taken_and_forgotten(client, ledger, taken):
    body = json.dumps({"entity": "registered_model", "action": "created", "data": {"name": "m"}}).encode()
    assert send(client, body=body) == 202
    assert (ledger.events(), taken) == ({}, [])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"secret": "another secret"}, 401),
        ({"delivery": "d.1"}, 401),
        ({"X-MLflow-Signature": "v1,"}, 401),
        ({"X-MLflow-Signature": b"\x80"}, 401),
        ({"age": 400}, 400),
        ({"age": -400}, 400),
        ({"body": b"[" * 100_000}, 400),
        ({"body": b" " * (LIMITS.body_bytes + 1)}, 413),
    ],
)
def test_what_is_refused_leaves_nothing(client, ledger, taken, change, status):
    assert send(client, **change) == status
    assert (ledger.events(), taken) == ({}, [])


def test_a_body_without_a_length_is_cut_off(client):
    parts = (b" " * 10_000 for _ in range(30))
    assert client.post(PATH, content=parts).status_code == 413


def test_too_many_are_refused(ledger, taken):
    client = client_of(ledger, taken, Limits(per_minute=10, per_sender=5))
    assert [send(client, f"d{i}") for i in range(7)] == [202] * 5 + [429] * 2


def test_what_is_not_signed_spends_nothing_of_the_quota(ledger, taken):
    client = client_of(ledger, taken, Limits(per_minute=10, per_sender=5))
    assert [send(client, f"f{i}", secret="a guess") for i in range(20)] == [401] * 20
    assert send(client) == 202


def test_a_disk_that_takes_nothing_is_reported_to_the_sender(client, ledger, monkeypatch):
    monkeypatch.setattr(ledger, "take", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert send(client) == 503


def test_health_and_metrics(ledger, taken):
    assert client_of(ledger, taken).get("/healthz").json() == {"status": "alive"}
    assert client_of(ledger, taken).get("/readyz").status_code == 200

    async def missing():
        return {"mlflow": "away"}

    client = client_of(ledger, taken, missing=missing)
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (503, {"mlflow": "away"})
    # What fails is reported, and the service stays ready: the rest is done.
    answer = client_of(ledger, taken, failing=lambda: {"event 3": "the disk is full"}).get("/readyz")
    assert (answer.status_code, answer.json()["failing"]) == (200, {"event 3": "the disk is full"})
    send(client)
    assert 'sidlsg_triggers_deliveries_total{status="202"} 1.0' in client.get("/metrics").text
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404


@pytest.mark.parametrize("secrets", [[], [""]])
def test_no_secret_is_refused(ledger, secrets):
    with pytest.raises(InputError, match="secret is empty"):
        Receiver(ledger, secrets, WebhookMetrics(), LIMITS, print)
