import json
import time

import pytest
from fastapi.testclient import TestClient

from sidlsg.errors import InputError
from sidlsg.trigger.service.ledger import Ledger
from sidlsg.trigger.service.receiver import BODY_BYTES, PATH, receiver
from sidlsg.trigger.service.signature import signature_of
from sidlsg.trigger.service.table import Table

TABLE = Table.model_validate(
    {
        "on": [
            {"name": "n", "event": "model_version.created", "run": {"pipeline": "p", "parameters": {"v": "{version}"}}}
        ]
    }
)
DATA = {"name": "m", "version": "1", "tags": {}}
BODY = json.dumps({"entity": "model_version", "action": "created", "data": DATA}).encode()


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def client(ledger):
    return TestClient(receiver(TABLE, ledger, ["secret"]))


def send(client, delivery="d1", body=BODY, secret="secret", age=0.0):
    stamp = str(int(time.time() - age))
    headers = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp}
    headers["X-MLflow-Signature"] = signature_of(secret, delivery, stamp, body)
    return client.post(PATH, content=body, headers=headers).status_code


def test_200_deliveries_of_one_event_are_one_intent(client, ledger):
    assert {send(client, f"d{i % 100}") for i in range(200)} == {202}
    assert [intent.parameters for intent in ledger.unstarted()] == [{"v": "1"}]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"secret": "other"}, 401),
        ({"age": 400}, 400),
        ({"age": -400}, 400),
        ({"body": b"[" * 100_000}, 400),
        ({"body": b" " * (BODY_BYTES + 1)}, 413),
    ],
)
def test_what_is_refused_leaves_nothing(client, ledger, change, status):
    assert send(client, **change) == status
    assert ledger.unstarted() == []


def test_headers_that_are_not_there_are_forged(client):
    assert client.post(PATH, content=BODY).status_code == 401


def test_no_secret_is_not_every_secret(ledger):
    with pytest.raises(InputError, match="secret is empty"):
        receiver(TABLE, ledger, [""])
