from __future__ import annotations

from pathlib import Path

from sidlsg.kubeflow.nodes.settings import NodeSettings, node_settings, read_settings
from sidlsg.kubeflow.profile import Stage
from sidlsg.kubeflow.profile_file import read_profile

ROOT = Path(__file__).parents[4]


def test_every_profile_gives_settings_that_nodes_can_have() -> None:
    for path in sorted((ROOT / "infra" / "profiles").glob("*.toml")):
        share = read_profile(path).stages["distil"]
        settings = read_settings(node_settings(share))
        assert (settings.cpu, settings.memory, settings.shm) == (share.cpu, share.memory, share.shm)
        assert settings.secrets == share.secrets
        assert settings.priority == share.priority
        assert [dict(taint)["key"] for taint in settings.tolerations] == [taint.key for taint in share.tolerations]


def test_what_a_share_does_not_name_nodes_do_not_have() -> None:
    settings = read_settings(node_settings(Stage()))
    assert settings.secrets == settings.config_maps == settings.volumes == {}
    assert settings.shm == ""
    assert settings.optional_secrets == NodeSettings().optional_secrets


def test_a_share_gives_the_same_text_each_time() -> None:
    assert node_settings(Stage(labels={"b": "1", "a": "2"})) == node_settings(Stage(labels={"a": "2", "b": "1"}))
