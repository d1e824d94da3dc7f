import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.prompts import shards
from sidlsg.prompts.shards import read_texts, write_shards
from sidlsg.prompts.source import Prompt

PROMPTS = [Prompt(f"text {i}", 100 - i, i / 4) for i in range(5)]


def test_columns_and_types_are_what_the_record_promises(tmp_path):
    (path,) = write_shards(PROMPTS, tmp_path / "shards", rows_per_shard=5)
    table = pq.read_table(path)
    assert table.schema.equals(
        pa.schema([("id", pa.int64()), ("text", pa.string()), ("source_row", pa.int64()), ("score", pa.float32())])
    )
    assert table.to_pydict() == {
        "id": [0, 1, 2, 3, 4],
        "text": ["text 0", "text 1", "text 2", "text 3", "text 4"],
        "source_row": [100, 99, 98, 97, 96],
        "score": [0.0, 0.25, 0.5, 0.75, 1.0],
    }


def test_ids_count_on_over_shards(tmp_path):
    paths = write_shards(PROMPTS, tmp_path / "shards", rows_per_shard=2)
    assert [path.name for path in paths] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert [pq.read_table(path)["id"].to_pylist() for path in paths] == [[0, 1], [2, 3], [4]]
    assert read_texts(paths[1]) == ["text 2", "text 3"]


def test_row_groups_have_a_fixed_size(tmp_path):
    many = [Prompt("a", i, 6.0) for i in range(shards.ROW_GROUP + 1)]
    (path,) = write_shards(many, tmp_path / "shards", rows_per_shard=len(many))
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [shards.ROW_GROUP, 1]
