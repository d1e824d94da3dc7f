from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.settings import NodeSettings, node_settings, read_settings
from sidlsg.kubeflow.profile import Stage
from sidlsg.kubeflow.profile_file import read_profile
from sidlsg.runtime.errors import InputError

ROOT = Path(__file__).parents[4]


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
        ('{"cpu": 4}', "cpu is 4; give a text"),
        ('{"queue_minutes": 0}', "queue_minutes is 0; give a number of at least 1"),
        ('{"volumes": {"disk": "shared"}}', "give an absolute path"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(text)


def test_every_profile_gives_settings_that_nodes_can_have() -> None:
    for path in sorted((ROOT / "infra" / "profiles").glob("*.toml")):
        share = read_profile(path).stages["distil"]
        settings = read_settings(node_settings(share))
        assert (settings.cpu, settings.memory, settings.shm) == (share.cpu, share.memory, share.shm)
        assert settings.secrets == share.secrets
        assert settings.priority == share.priority
        assert [dict(taint)["key"] for taint in settings.tolerations] == [taint.key for taint in share.tolerations]


def test_nodes_get_only_what_a_share_names() -> None:
    settings = read_settings(node_settings(Stage()))
    assert settings.secrets == settings.config_maps == settings.volumes == {}
    assert settings.shm == ""
    assert settings.optional_secrets == NodeSettings().optional_secrets


def test_a_share_gives_the_same_text_each_time() -> None:
    assert node_settings(Stage(labels={"b": "1", "a": "2"})) == node_settings(Stage(labels={"a": "2", "b": "1"}))
