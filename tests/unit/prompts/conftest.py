"""Small prompt tables on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

WriteTable = Callable[..., Path]


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Write texts and scores as a table with the default column names, and one column that nobody asked for."""

    def write(
        texts: Sequence[str | None], scores: Sequence[float | None] | None = None, name: str = "in.parquet"
    ) -> Path:
        path = tmp_path / name
        values = [7.0] * len(texts) if scores is None else list(scores)
        columns = {
            "URL": pa.array(["https://example.invalid/"] * len(texts), pa.string()),
            "TEXT": pa.array(texts, pa.string()),
            "AESTHETIC_SCORE": pa.array(values, pa.float64()),
        }
        pq.write_table(pa.table(columns), path)
        return path

    return write
