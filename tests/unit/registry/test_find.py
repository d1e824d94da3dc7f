"""Versions as a person names them."""

from __future__ import annotations

import pytest

from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.registry.versions import find_version
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import ModelVersion


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A store of its own, because messages list what is in it."""
    return f"sqlite:///{tmp_path_factory.mktemp('find')}/mlflow.db"


@pytest.fixture(scope="module")
def registered(registry, make_student):
    return [register(make_student(seed=seed), registry, "found") for seed in range(2)]


@pytest.fixture(scope="module")
def client(registry, registered):
    assert [record.version for record in registered] == [1, 2]
    client = connect(registry)
    client.set_registered_model_alias("found", "champion", "2")
    client.create_model_version("found", source="file:///elsewhere")
    client.create_registered_model("empty")
    return client


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("which", "place"), [("1", 0), ("2", 1), ("002", 1), ("champion", 1), (" champion ", 1)])
def test_a_version_is_found_by_number_and_by_alias(registry, registered, which, place):
    assert isinstance(registered[place], ModelVersion)
    assert find_version(registry, "found", which) == registered[place]


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("name", "which", "told"),
    [
        ("fund", "1", r"no model 'fund' in this registry \(did you mean 'found'\?\); it has: empty, found"),
        ("", "1", "no model '' in this registry"),
        ("found", "7", "model 'found' has no version 7; it has: 1, 2, 3"),
        ("found", "0", "has no version 0"),
        (
            "found",
            "champoin",
            r"has no alias 'champoin' \(did you mean 'champion'\?\); .* aliases: champion \(version 2\)",
        ),
        ("found", "-1", "has no alias '-1'"),
        ("found", "", "has no alias ''"),
        ("empty", "champion", "aliases: none"),
        ("empty", "1", "it has: none"),
        ("found", "3", "version 3 of 'found' has no tag student_sha256"),
    ],
)
def test_what_cannot_be_found_is_told_with_what_there_is(registry, name, which, told):
    with pytest.raises(InputError, match=told):
        find_version(registry, name, which)


def test_a_registry_without_models_is_told(tmp_path):
    address = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(InputError, match="no MLflow store at"):
        find_version(address, "found", "1")
    connect(address, create=True)
    with pytest.raises(InputError, match="this registry has no model at all"):
        find_version(address, "found", "1")


def test_of_many_names_a_message_lists_some(tmp_path):
    address = f"sqlite:///{tmp_path}/mlflow.db"
    client = connect(address, create=True)
    for number in range(25):
        client.create_registered_model(f"model{number:02d}")
    with pytest.raises(InputError, match=r"it has: model00, .*, model19 and 5 more$"):
        find_version(address, "zzz", "1")
