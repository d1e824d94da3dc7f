"""Versions by student, number and alias, and the messages where none matches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.registry.versions import alias_version, find_version, require_same_student, require_version, tagged_versions
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import ModelVersion


@pytest.fixture(scope="module")
def listed(tracking_uri):
    client = connect(tracking_uri, create=True)
    client.create_registered_model("listed")
    for digest in ("aa", "bb", *["aa"] * 10):
        client.create_model_version("listed", source="file:///nowhere", tags={"student_sha256": digest})
    return client


def test_versions_come_lowest_first_by_number(listed):
    found = [int(version.version) for version in tagged_versions(listed, "listed", "student_sha256", "aa")]
    assert found == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]  # by text, 10 would come before 3
    assert tagged_versions(listed, "listed", "student_sha256", "cc") == []
    assert tagged_versions(listed, "no-such-model", "student_sha256", "aa") == []


def test_a_version_must_exist_and_be_of_the_student(listed):
    record = ModelVersion(name="listed", version=2, run_id="", student_sha256="bb")
    assert require_same_student(listed, record).version
    with pytest.raises(
        InputError, match=r"model 'listed' has no version 99; it has versions 1, 2, .*12: give one of them$"
    ):
        require_version(listed, "listed", 99)
    with pytest.raises(InputError, match="was made of student bb, not of aa"):
        require_same_student(listed, replace(record, student_sha256="aa"))


def test_an_alias_gives_a_number_or_nothing(listed):
    assert alias_version(listed, "listed", "champion") is None
    listed.set_registered_model_alias("listed", "champion", "3")
    assert alias_version(listed, "listed", "champion") == 3


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A separate store, because messages list its content."""
    return f"sqlite:///{tmp_path_factory.mktemp('find')}/mlflow.db"


@pytest.fixture(scope="module")
def registered(registry, make_student):
    return [register(make_student(seed=seed), registry, "found") for seed in range(2)]


@pytest.fixture(scope="module")
def found(registry, registered):
    assert [record.version for record in registered] == [1, 2]
    client = connect(registry)
    client.set_registered_model_alias("found", "champion", "2")
    client.create_model_version("found", source="file:///elsewhere")
    client.create_model_version("found", source="file:///elsewhere", tags={"student_sha256": "../../elsewhere"})
    client.create_registered_model("empty")
    return client


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(("which", "place"), [("1", 0), ("2", 1), ("002", 1), ("champion", 1), (" champion ", 1)])
def test_a_version_is_found_by_number_and_by_alias(registry, registered, which, place):
    assert isinstance(registered[place], ModelVersion)
    assert find_version(registry, "found", which) == registered[place]


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("name", "which", "message"),
    [
        ("fund", "1", r"no model 'fund' in this registry \(did you mean 'found'\?\); it has: empty, found"),
        ("", "1", "no model '' in this registry"),
        ("found", "7", "model 'found' has no version 7; it has versions 1, 2, 3, 4: give one of them$"),
        ("found", "0", "has no version 0"),
        (
            "found",
            "champoin",
            r"has no version or alias 'champoin' \(did you mean 'champion'\?\); it has versions 1, 2, 3, 4, and "
            r"champion \(version 2\): give one of them$",
        ),
        ("found", "-1", "has no version or alias '-1'"),
        ("found", "", "has no version or alias ''"),
        ("empty", "champion", "it has no version: register a student first"),
        ("empty", "1", "it has no version: register a student first"),
        ("found", "3", "version 3 of 'found' has no tag student_sha256 with a digest"),
        ("found", "4", "version 4 of 'found' has no tag student_sha256 with a digest"),
    ],
)
def test_the_error_lists_the_known_names(registry, name, which, message):
    with pytest.raises(InputError, match=message):
        find_version(registry, name, which)


def test_the_error_of_a_registry_without_models(tmp_path):
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
