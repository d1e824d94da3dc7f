from __future__ import annotations

import pytest

from sidlsg.kubeflow.nodes.settings import NodeSettings, read_settings
from sidlsg.runtime.errors import InputError


def test_nothing_gives_the_defaults() -> None:
    assert read_settings("") == read_settings("{}") == NodeSettings()


def test_values_are_read() -> None:
    settings = read_settings('{"memory": "512Gi", "secrets": {"s": {"A": "a"}}, "queue_minutes": 5}')
    assert (settings.memory, settings.secrets, settings.queue_minutes) == ("512Gi", {"s": {"A": "a"}}, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "are not JSON"),
        ("[]", r"are \[\]; give an object"),
        ('{"memroy": "1Gi"}', r"memroy is unknown \(did you mean 'memory'\?\); allowed: cpu, cpu_limit, memory"),
        ('{"cpu": 4}', "cpu is 4; input should be a valid string"),
        ('{"queue_minutes": 0}', "queue_minutes is 0; input should be greater than or equal to 1"),
        ('{"volumes": {"disk": "shared"}}', "give an absolute path"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(text)
