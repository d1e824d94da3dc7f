"""Requests to a webhook: how often, and what is said where it does not take a notice."""

from __future__ import annotations

import pytest

from sidlsg.kubeflow import notices as webhook
from sidlsg.kubeflow.notices import check_webhook, send
from sidlsg.runtime.errors import InputError, StorageError
from unit.kubeflow.receiver import Receiver


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0, 0.0))


def test_a_notice_is_sent_once_with_its_key() -> None:
    with Receiver() as receiver:
        send(receiver.url, {"text": "a"}, "sidlsg-1")
    assert (receiver.received, receiver.keys) == ([{"text": "a"}], ["sidlsg-1"])


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_webhook_that_is_busy_is_tried_again_with_the_same_key(code: int) -> None:
    with Receiver(code, code) as receiver:
        send(receiver.url, {}, "sidlsg-1")
    assert receiver.keys == ["sidlsg-1"] * 3


def test_the_tries_end_and_the_secret_part_of_the_url_is_not_said() -> None:
    with Receiver(*[503] * 9) as receiver, pytest.raises(StorageError, match=r"in 4 tries.*code 503") as caught:
        send(receiver.url, {}, "sidlsg-1")
    assert len(receiver.received) == 4
    assert "secret-path" not in str(caught.value)


def test_a_webhook_where_nothing_listens_is_named() -> None:
    with Receiver() as receiver:
        pass
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:\d+ did not take the notice in 4 tries"):
        send(receiver.url, {}, "sidlsg-1")


@pytest.mark.parametrize("code", [302, 404])
def test_a_refusal_and_a_redirect_are_not_tried_again(code: int) -> None:
    with Receiver(code) as receiver, pytest.raises(InputError, match=f"refused the notice with code {code}"):
        send(receiver.url, {}, "sidlsg-1")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "no-url", "http:///path", "http://u:p@h/x", "http://h:x/", "http://h/a b"]
)
def test_what_is_no_webhook_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="SIDLSG_NOTICE_URL holds no webhook's URL") as caught:
        check_webhook(url)
    assert url not in str(caught.value)
