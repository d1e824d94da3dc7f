"""The servers that the tests of this folder share: started once a run, where a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared import served
from sidlsg.registry.server.stack import Stack


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """MLflow on PostgreSQL with artifacts on SeaweedFS."""
    with served(
        tmp_path_factory, "stack", lambda folder: Stack(folder).start(), lambda folder: Stack(folder).servers()
    ) as folder:
        yield Stack(folder)
