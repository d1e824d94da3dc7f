"""Changes to a copy of a teacher's folder."""

from __future__ import annotations

import json
from pathlib import Path


def with_index(folder: Path, **changes: object) -> None:
    """Change entries of the index."""
    changed(folder / "model_index.json", **changes)


def changed(config: Path, **values: object) -> None:
    """Change values of a configuration."""
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
