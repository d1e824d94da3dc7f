"""Sources of curation on S3: objects and prefixes, found, fetched and read. Each on a real server."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.seaweedfs import SeaweedFS
from sidlsg.prompts.rules import CurationRules, ScoreRule
from sidlsg.prompts.source.batches import check_file, read_batches, read_row
from sidlsg.prompts.source.content import local_copy
from sidlsg.prompts.source.files import find_inputs
from sidlsg.prompts.source.parquet import cut_pieces
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.uri import open_store, split_s3_uri

RULES = CurationRules(score=ScoreRule(enabled=False))


@pytest.fixture
def prefix(s3_place: str, s3_server: SeaweedFS, tmp_path: Path) -> str:
    """A prefix with a source of every format, what does not count, and a prefix that begins alike beside it."""
    pq.write_table(pa.table({"TEXT": ["a", "b", "c"], "score": [6.0, 7.0, 8.0]}), tmp_path / "t.parquet")
    store = open_store(f"{s3_place}/in")
    store.write("laion/part-0.parquet", (tmp_path / "t.parquet").read_bytes())
    store.write("laion/deep/er/lines.txt", b"one\ntwo\n")
    store.write("laion/objects.jsonl.gz", gzip.compress(b'{"TEXT": "three"}\n'))
    store.write("laion/_SUCCESS", b"")
    store.write("laion/_metadata.parquet", b"PAR1")
    store.write("laion/read.md", b"words")
    store.write("laion-2/other.txt", b"other\n")
    store.write("unnamed", (tmp_path / "t.parquet").read_bytes())
    store.write("unknown.md", b"TEXT\n")
    store.write("none.txt", b"")
    bucket, _ = split_s3_uri(s3_place)
    s3_server.client().put_object(Bucket=bucket, Key="in/laion/.hidden/a.txt", Body=b"x\n")
    return f"{s3_place}/in"


def texts(place: str) -> list[str]:
    files = find_inputs([place])
    pieces = [piece for index, file in enumerate(files) for piece in cut_pieces(index, file, 1)]
    frames: list[pl.DataFrame] = []
    for piece in pieces:
        file = files[piece.file]
        with local_copy(file) as path:
            check_file(path, file, RULES)
            frames += read_batches(path, file, piece, RULES)
    return [text for frame in frames for text in frame["text"].to_list()]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_gives_its_source_files(
    prefix: str, slash: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = find_inputs([f"{prefix}/laion{slash}"])
    assert [(file.label, file.name, file.format) for file in files] == [
        ("laion", "deep/er/lines.txt", "text"),
        ("laion", "objects.jsonl.gz", "jsonl"),
        ("laion", "part-0.parquet", "parquet"),
    ]
    assert files[0].place == f"{prefix}/laion/deep/er/lines.txt"
    assert files[0].size == 8
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    assert texts(f"{prefix}/laion{slash}") == ["one", "two", "three", "a", "b", "c"]
    assert list((tmp_path / "copies").iterdir()) == []


def test_single_objects(prefix: str) -> None:
    assert texts(f"{prefix}/laion-2/other.txt") == ["other"]
    assert texts(f"{prefix}/unnamed") == ["a", "b", "c"]
    assert texts(f"{prefix}/none.txt") == []
    (file,) = find_inputs([f"mine={prefix}/laion/part-0.parquet"])
    assert (file.label, file.name) == ("mine", "part-0.parquet")
    with local_copy(file) as path:
        assert read_row(path, file, RULES, 2).select("text", "score", "row").rows() == [("c", 8.0, 2)]
    with pytest.raises(InputError, match=r"unknown\.md is of no format that is known"):
        find_inputs([f"{prefix}/unknown.md"])


def test_a_whole_bucket_and_places_of_both_kinds(prefix: str, s3_place: str, tmp_path: Path) -> None:
    (tmp_path / "laion-2").mkdir()
    (tmp_path / "laion-2" / "other.txt").write_text("local\n")
    mixed = find_inputs([f"{prefix}/laion-2", str(tmp_path / "laion-2"), f"{prefix}/unnamed"])
    assert [file.name for file in mixed if file.label == "laion-2"] == sorted(
        [f"{tmp_path.name}/laion-2/other.txt", "in/laion-2/other.txt"]
    )
    assert {file.name for file in find_inputs([s3_place])} == {
        "in/laion-2/other.txt",
        "in/laion/deep/er/lines.txt",
        "in/laion/objects.jsonl.gz",
        "in/laion/part-0.parquet",
        "in/none.txt",
    }


def test_the_same_object_twice(prefix: str) -> None:
    with pytest.raises(InputError, match="given twice"):
        find_inputs([f"{prefix}/laion", f"again={prefix}/laion/part-0.parquet"])


@pytest.mark.parametrize("name", ["nothing", "nothing/", "lai", "laion/nothing.parquet"])
def test_nothing_at_a_place(prefix: str, name: str) -> None:
    with pytest.raises(InputError, match=f"there is nothing at {prefix}/{name}"):
        find_inputs([f"{prefix}/{name}"])


def test_a_prefix_without_source_files(prefix: str) -> None:
    open_store(f"{prefix}/notes").write("a.md", b"words")
    with pytest.raises(InputError, match=r"no source file in .*/notes, only a\.md; files that end in \.parquet"):
        find_inputs([f"{prefix}/notes"])


def test_no_bucket_and_no_access(prefix: str, s3_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no such bucket"):
        find_inputs([f"{s3_place}-none/x"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(InputError, match="refuses the access"):
        find_inputs([f"{prefix}/laion"])


def test_an_object_that_changed_or_went_after_it_was_found(prefix: str) -> None:
    (file,) = find_inputs([f"{prefix}/laion-2/other.txt"])
    store = open_store(f"{prefix}/laion-2")
    store.write("other.txt", b"another length\n")
    with pytest.raises(ContentError, match="has changed"), local_copy(file):
        pass
    store.delete(["other.txt"])
    with pytest.raises(ContentError, match="there is no"), local_copy(file):
        pass
