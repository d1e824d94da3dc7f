import json

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.webhooks.ledger import Event, parse_event


def body(entity, action, **data):
    return json.dumps({"entity": entity, "action": action, "timestamp": "t", "data": data}).encode()


def test_the_three_kinds_as_mlflow_sends_them():
    new = body("model_version", "created", name="m", version="1", source="s", run_id=None, tags={"a": "b"})
    assert parse_event(new) == Event(kind="model_version.created", model="m", version="1")
    alias = body("model_version_alias", "created", name="m", alias="champion", version="1")
    assert parse_event(alias) == Event(kind="model_version_alias.created", model="m", version="1", alias="champion")
    tag = body("model_version_tag", "set", name="m", version="1", key="k", value="v")
    assert parse_event(tag) == Event(kind="model_version_tag.set", model="m", version="1", tag="k")


def test_another_kind_is_none():
    assert parse_event(body("registered_model", "created", name="m")) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b"[]",
        b'{"data": 3}',
        body("model_version", "created", name="m", version=1),
        body("model_version", "created", name="m\0", version="1"),
        body("model_version", "created", name="m\ud800", version="1"),
        body("model_version", "created", name="m" * 2000, version="1"),
        body("model_version_tag", "set", name="m", version="1", key=["k"], value="v"),
    ],
)
def test_garbage_is_refused(wrong):
    with pytest.raises(InputError):
        parse_event(wrong)
