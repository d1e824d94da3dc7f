import itertools

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.prompts.plan import BadFile, Execution, make_plan
from sidlsg.prompts.source import parquet
from sidlsg.prompts.source.batches import check_file, read_batches
from sidlsg.prompts.source.files import InputFile
from sidlsg.prompts.source.parquet import Piece, cut_pieces
from sidlsg.prompts.source.problems import NO_TEXT, NOT_UTF8
from sidlsg.runtime.errors import InputError
from unit.prompts.source.reading import NO_SCORE, all_rows, one, refusal


def spans(path, rows_per_piece):
    pieces = cut_pieces(0, one(path), rows_per_piece)
    return [(piece.start, piece.stop, piece.rows, piece.first_row) for piece in pieces]


def test_parquet_is_cut_between_row_groups(write_parquet):
    path = write_parquet({"TEXT": ["a"] * 10}, row_group_size=3)
    assert spans(path, 100) == [(0, 4, 10, 0)]
    assert spans(path, 6) == [(0, 2, 6, 0), (2, 4, 4, 6)]
    assert spans(path, 5) == [(0, 1, 3, 0), (1, 2, 3, 3), (2, 4, 4, 6)]
    # A group is never cut.
    assert spans(path, 1) == [(0, 1, 3, 0), (1, 2, 3, 3), (2, 3, 3, 6), (3, 4, 1, 9)]


def test_text_is_cut_at_bytes(write):
    assert spans(write("a.txt", b"x" * 129), 1) == [(0, 64, 1, -1), (64, 128, 1, -1), (128, 129, 1, -1)]
    assert spans(write("a.jsonl", b"x" * 129), 2) == [(0, 128, 2, -1), (128, 129, 1, -1)]
    assert spans(write("a.txt.gz", b"x" * 129), 1) == [(0, 0, 3, -1)]


def test_empty_files(write, write_parquet):
    assert spans(write("a.txt", b""), 1) == [(0, 0, 0, -1)]
    (piece,) = spans(write_parquet({"TEXT": []}), 1)
    assert piece[2:] == (0, 0)


def test_files_on_s3_stay_whole():
    files = [
        InputFile(place=f"s3://b/{name}", name=name, label="b", format=kind, size=1000)
        for name, kind in (("a.parquet", "parquet"), ("a.txt", "text"))
    ]
    assert [piece for index, file in enumerate(files) for piece in cut_pieces(index, file, 1)] == [
        Piece(file=0, start=0, stop=0, rows=16, first_row=0),
        Piece(file=1, start=0, stop=0, rows=16, first_row=-1),
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a parquet file"),
        (b"TEXT,score\n", "not a parquet file"),
        (b"PAR1", "truncated or damaged"),
        (b"PAR1" + b"\0" * 100, "truncated or damaged"),
        (b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x0fPAR1", "truncated or damaged"),
    ],
)
def test_a_file_that_is_not_parquet_is_named_or_left_out(write, tmp_path, data, why):
    write("x/0.txt")
    path = write("x/bad.parquet", data)
    with pytest.raises(InputError, match=why) as caught:
        make_plan([str(tmp_path / "x")], NO_SCORE, [])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    plan = make_plan([str(tmp_path / "x")], NO_SCORE, [], Execution(skip_bad_files=True))
    assert [plan.files[piece.file].name for piece in plan.pieces] == ["0.txt"]
    assert plan.bad_files == (BadFile(name="bad.parquet", reason=str(caught.value)),)


@settings(deadline=None)
@given(
    texts=st.lists(st.one_of(st.none(), st.binary(max_size=6)), min_size=1, max_size=12),
    group=st.integers(1, 5),
    rows=st.integers(1, 14),
    kind=st.sampled_from(["string", "large_string", "binary", "dictionary", "string_view"]),
)
def test_any_bytes_in_any_kind_of_text_column(tmp_path_factory, texts, group, rows, kind):
    path = tmp_path_factory.mktemp("any") / "a.parquet"
    raw = pa.array(texts, pa.binary())
    column = {
        "string": lambda: raw.view(pa.string()),
        "large_string": lambda: raw.cast(pa.large_binary()).view(pa.large_string()),
        "binary": lambda: raw,
        "dictionary": lambda: raw.view(pa.string()).dictionary_encode(),
        "string_view": lambda: raw.cast(pa.binary_view()).view(pa.string_view()),
    }[kind]()
    pq.write_table(pa.table({"TEXT": column}), path, row_group_size=group)
    found = all_rows(path, rows_per_piece=rows, batch_rows=rows)
    for number, (text, expected) in enumerate(zip(found.iter_rows(named=True), texts, strict=True)):
        try:
            right = None if expected is None else expected.decode()
        except UnicodeDecodeError:
            assert (text["text"], text["problem"], text["given"]) == (None, NOT_UTF8, expected)
        else:
            assert (text["text"], text["problem"]) == (right, NO_TEXT if right is None else None)
        assert text["row"] == number


def test_very_long_texts_come_in_small_batches(write_parquet, monkeypatch):
    long = "ß" * 500_000
    monkeypatch.setattr("sidlsg.prompts.source.parquet._BATCH_BYTES", 10_000_000)
    texts = [f"{n}{long}" for n in range(25)]
    path = write_parquet({"TEXT": texts}, use_dictionary=False, compression="zstd")
    file = one(path)
    (piece,) = cut_pieces(0, file, 1 << 20)
    frames = list(read_batches(path, file, piece, NO_SCORE))
    assert max(map(len, frames)) < 11
    assert pl.concat(frames)["text"].to_list() == texts


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_file(write_parquet, share):
    path = write_parquet({"TEXT": [f"a text {i}" for i in range(1000)]})
    content = path.read_bytes()
    path.write_bytes(content[: max(5, int(share * len(content)))])
    assert "cannot be read as parquet: it is truncated or damaged" in refusal(path)


def test_a_damaged_page_is_found_while_reading(write_parquet):
    path = write_parquet(
        {"TEXT": [f"a text {i}" for i in range(1000)]},
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        row_group_size=500,
    )
    content = path.read_bytes()
    assert content.count(b"a text 777") == 1
    path.write_bytes(content.replace(b"a text 777", b"a text 778"))
    file = one(path)
    check_file(path, file, NO_SCORE)
    first, second = cut_pieces(0, file, 500)
    assert sum(map(len, read_batches(path, file, first, NO_SCORE))) == 500
    with pytest.raises(InputError, match="truncated or damaged") as caught:
        list(read_batches(path, file, second, NO_SCORE))
    assert str(path) in str(caught.value)


@settings(deadline=None)
@given(data=st.data())
def test_a_file_with_any_byte_changed_is_read_or_named(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.parquet"
    pq.write_table(pa.table({"TEXT": [f"text {n}" for n in range(50)], "score": [6.0] * 50}), path, row_group_size=20)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert len(all_rows(path)) == 50
    except InputError as error:
        assert str(path) in str(error)


BOMBS = {
    "a dictionary": lambda text, path: pq.write_table(
        pa.table({"TEXT": pa.DictionaryArray.from_arrays(pa.array(np.zeros(40_000, np.int32)), pa.array([text]))}), path
    ),
    "a dictionary of a plain column": lambda text, path: pq.write_table(pa.table({"TEXT": [text] * 5_000}), path),
    "views of one text": lambda text, path: pq.write_table(
        pa.table({"TEXT": pa.array([text] * 5_000, pa.string_view())}), path
    ),
    "differences": lambda text, path: pq.write_table(
        pa.table({"TEXT": [text] * 5_000}),
        path,
        use_dictionary=False,
        column_encoding={"TEXT": "DELTA_BYTE_ARRAY"},
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_texts_from_few_bytes_are_bounded_before_they_are_decoded(kind, tmp_path, monkeypatch):
    """A file of some KB whose texts would take gigabytes."""
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 4 << 20)
    path, text = tmp_path / "bomb.parquet", "y" * 20_000
    BOMBS[kind](text, path)
    assert path.stat().st_size < 20_000
    file = one(path)
    (piece,) = cut_pieces(0, file, 1 << 40)
    rows = 0
    for frame in itertools.islice(read_batches(path, file, piece, NO_SCORE), 5):
        assert frame["text"].str.len_bytes().sum() <= 256 * 20_000
        assert (frame["text"] == text).all()
        assert frame["row"].to_list() == list(range(rows, rows + len(frame)))
        rows += len(frame)


def test_texts_by_their_differences_are_read_whole(tmp_path):
    path, texts = tmp_path / "in.parquet", [f"caption {number}" for number in range(1000)]
    pq.write_table(pa.table({"TEXT": texts}), path, use_dictionary=False, column_encoding={"TEXT": "DELTA_BYTE_ARRAY"})
    found = all_rows(path)
    assert found["text"].to_list() == texts
    assert found["row"].to_list() == list(range(1000))
