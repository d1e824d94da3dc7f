"""The servers that the tests of this folder share: started once a run, where a test asks for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidlsg.services.stack import Stack


@pytest.fixture(scope="session")
def servers() -> Iterator[Stack]:
    """MLflow on PostgreSQL with artifacts on SeaweedFS."""
    # PostgreSQL's own user must be able to enter the folder, where the tests run as root.
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o711)
        stack = Stack(Path(temporary) / "services")
        try:
            stack.start()
            yield stack
        finally:
            for server in stack.servers():
                server.kill()
