"""Versions by student and by alias."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidlsg.registry.connection import connect
from sidlsg.registry.versions import alias_version, require_same_student, require_version, versions_of
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import ModelVersion


@pytest.fixture(scope="module")
def client(tracking_uri):
    client = connect(tracking_uri, create=True)
    client.create_registered_model("listed")
    for digest in ("aa", "bb", *["aa"] * 10):
        client.create_model_version("listed", source="file:///nowhere", tags={"student_sha256": digest})
    return client


def test_versions_come_lowest_first_by_number(client):
    found = [int(version.version) for version in versions_of(client, "listed", "aa")]
    assert found == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]  # by text, 10 would come before 3
    assert versions_of(client, "listed", "cc") == []
    assert versions_of(client, "no-such-model", "aa") == []


def test_a_version_must_exist_and_be_of_the_student(client):
    record = ModelVersion(name="listed", version=2, run_id="", student_sha256="bb")
    assert require_same_student(client, record).version
    with pytest.raises(InputError, match="model 'listed' has no version 99; it has: 1, 2, "):
        require_version(client, "listed", 99)
    with pytest.raises(InputError, match="was made of student bb, not of aa"):
        require_same_student(client, replace(record, student_sha256="aa"))


def test_an_alias_gives_a_number_or_nothing(client):
    assert alias_version(client, "listed", "champion") is None
    client.set_registered_model_alias("listed", "champion", "3")
    assert alias_version(client, "listed", "champion") == 3
