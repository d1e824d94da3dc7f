import dataclasses

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.prompts import shards
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import CurationRules, DuplicatesRule
from sidlsg.prompts.shards import ORIGINS, SCHEMA, iter_prompts, read_prompts, read_texts, shard_name, write_table
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import FileRef


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


def test_origins_are_a_separate_table(tmp_path):
    rows = pl.DataFrame({"id": [0], "file": ["a.parquet"], "row": [7], "copies": [2]})
    write_table(rows, ORIGINS, tmp_path / "origins")
    assert pq.read_table(tmp_path / "origins").to_pylist() == rows.to_dicts()


# These texts are alike.
RULES = CurationRules(duplicates=DuplicatesRule(similarity=0))


@pytest.fixture
def prompt_set(write_table, tmp_path):
    record = curate(write_table(["a red dog", "a blue cat"]), tmp_path / "out", CurationRules(), [])
    return tmp_path / "out", record


def test_texts_come_in_order_of_their_ids(prompt_set):
    folder, _ = prompt_set
    # SHA-256 of "a red dog" begins with 0f, that of "a blue cat" with 45.
    assert read_prompts(folder) == ["a red dog", "a blue cat"]


def test_a_changed_shard_is_refused(prompt_set):
    folder, _ = prompt_set
    shard = folder / "shards/00000.parquet"
    shard.write_bytes(shard.read_bytes() + b"\0")
    with pytest.raises(InputError, match="changed or damaged"):
        read_prompts(folder)


def test_a_changed_shard_is_refused_before_the_first_text(prompt_set):
    folder, _ = prompt_set
    shard = folder / "shards/00000.parquet"
    shard.write_bytes(shard.read_bytes() + b"\0")
    with pytest.raises(InputError, match="changed or damaged"):
        next(iter_prompts(folder))


def test_one_shard_is_read_at_a_time(write_table, tmp_path, monkeypatch):
    curate(write_table([f"a red dog {i}" for i in range(6)]), tmp_path / "out", RULES, [], Execution(rows_per_shard=2))
    opened = []
    monkeypatch.setattr(shards, "read_texts", lambda shard: opened.append(shard.name) or read_texts(shard))
    texts = iter_prompts(tmp_path / "out")
    first = [next(texts), next(texts)]
    assert opened == ["00000.parquet"]
    assert [*first, *texts] == read_prompts(tmp_path / "out")


def test_a_missing_shard_is_refused(prompt_set):
    folder, _ = prompt_set
    (folder / "shards/00000.parquet").unlink()
    with pytest.raises(InputError, match="is missing"):
        read_prompts(folder)


def test_a_wrong_count_is_refused(prompt_set):
    folder, record = prompt_set
    dataclasses.replace(record, count=3).save(folder)
    with pytest.raises(InputError, match=r"hold 2 prompts, but prompt_set\.json says 3"):
        read_prompts(folder)


def test_a_shard_elsewhere_is_refused(prompt_set):
    folder, record = prompt_set
    remote = FileRef(path="s3://bucket/00000.parquet", sha256="0" * 64)
    dataclasses.replace(record, shards=(remote,)).save(folder)
    with pytest.raises(InputError, match=r"s3://bucket/00000\.parquet"):
        read_prompts(folder)


def test_no_record(tmp_path):
    with pytest.raises(InputError, match="no PromptSet record"):
        read_prompts(tmp_path)
