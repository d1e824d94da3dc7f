import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.prompts import shards
from sidlsg.prompts.shards import ORIGINS, SCHEMA, read_texts, shard_name, write_table


def table(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "source": ["web"] * count,
            "id": range(count),
            "text": [f"text {i}" for i in range(count)],
            "tokens": [2] * count,
            "score": [None if i == 1 else i / 4 for i in range(count)],
            "extra": [0] * count,
        },
        schema_overrides={"tokens": pl.UInt32, "score": pl.Float32},
    )


def test_columns_and_types_are_what_the_record_promises(tmp_path):
    path = tmp_path / shard_name(0)
    write_table(table(3), SCHEMA, path)
    with pq.ParquetFile(path) as file:
        found = file.read()
    assert found.schema.equals(
        pa.schema(
            [
                ("id", pa.int64()),
                ("text", pa.string()),
                ("tokens", pa.int32()),
                ("score", pa.float32()),
                ("source", pa.string()),
            ]
        )
    )
    assert found.to_pylist() == [
        {"id": 0, "text": "text 0", "tokens": 2, "score": 0.0, "source": "web"},
        {"id": 1, "text": "text 1", "tokens": 2, "score": None, "source": "web"},
        {"id": 2, "text": "text 2", "tokens": 2, "score": 0.5, "source": "web"},
    ]
    assert read_texts(path) == ["text 0", "text 1", "text 2"]


def test_row_groups_have_a_fixed_size_and_equal_tables_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write_table(table(shards.ROW_GROUP + 1), SCHEMA, tmp_path / name)
    metadata = pq.read_metadata(tmp_path / "one")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [shards.ROW_GROUP, 1]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_origins_are_a_table_of_their_own(tmp_path):
    rows = pl.DataFrame({"id": [0], "file": ["a.parquet"], "row": [7], "copies": [2]})
    write_table(rows, ORIGINS, tmp_path / "origins")
    assert pq.read_table(tmp_path / "origins").to_pylist() == rows.to_dicts()
