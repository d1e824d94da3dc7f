"""The models of a page: a student after two iterations, and the bundled teacher; and a registry with that student."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.registry.connection import connect
from sidlsg.registry.promotion import CHAMPION
from sidlsg.registry.registration import Circumstances, register
from sidlsg.studio.models import Models
from sidlsg.studio.sources import find_student


@pytest.fixture(scope="session")
def registry(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tracking URI of a store whose model `tiny` has one version, the champion."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"
    register(tiny_student, uri, "tiny", Circumstances())
    connect(uri).set_registered_model_alias("tiny", CHAMPION, "1")
    return uri


@pytest.fixture(scope="module")
def models(tiny_student: Path, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Models:
    scratch = tmp_path_factory.mktemp("scratch")
    return Models(find_student(str(tiny_student), "", scratch), scratch, tracking_uri=registry)
