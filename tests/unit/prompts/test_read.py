import dataclasses

import pytest

from sidlsg.prompts import shards as read
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import CurationRules, DuplicatesRule
from sidlsg.prompts.shards import iter_prompts, read_prompts, read_texts
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import FileRef

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
    monkeypatch.setattr(read, "read_texts", lambda shard: opened.append(shard.name) or read_texts(shard))
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
