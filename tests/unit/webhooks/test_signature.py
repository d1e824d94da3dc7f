import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from sidlsg.webhooks.receiver import ExpiredError, ForgedError, check_signature, signature_of

BODY = '{"data": "é"}'.encode()
NOW = 1_700_000_000


def check(secrets=("secret",), delivery="id-1", timestamp=str(NOW), signature=None, body=BODY, now=NOW):
    signed = signature_of("secret", "id-1", timestamp, BODY) if signature is None else signature
    check_signature(secrets, delivery, timestamp, signed, body, now)


def test_signs_as_mlflow_does():
    assert signature_of("secret", "id-1", "17", BODY) == _generate_hmac_signature("secret", "id-1", "17", BODY.decode())


def test_any_of_the_secrets_in_use_is_good():
    check(secrets=("new", "secret"))


@pytest.mark.parametrize(
    "change",
    [
        {"secrets": ("other",)},
        {"secrets": ()},
        {"delivery": "id-2"},
        {"delivery": "id\n1"},
        {"body": BODY + b" "},
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
