"""The small CLIP of these tests; open_clip is imported where it is made."""

from __future__ import annotations

import pytest

from eval_gpu.tiny_clip import TinyClip, make_tiny_clip


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> TinyClip:
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))
