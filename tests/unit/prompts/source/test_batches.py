import itertools
import json
import math

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.errors import InputError
from sidlsg.prompts.rules import Columns, CurationRules, ImageRule, LanguageRule, ScoreRule, UnsafeRule
from sidlsg.prompts.source import parquet
from sidlsg.prompts.source.batches import SCHEMA, check_file, columns_of, read_batches, read_row
from sidlsg.prompts.source.pieces import cut_pieces
from unit.prompts.source.reading import NO_SCORE, all_rows, one

ALL_CUTS = CurationRules(image=ImageRule(enabled=True, minimum_similarity=0.3, minimum_side=256, maximum_aspect=2.0))


def refusal(path, rules=NO_SCORE):
    with pytest.raises(InputError) as caught:
        check_file(path, one(path), rules)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def bytes_as_strings(values):
    """A string column that was written without a look at its bytes."""
    return pa.array(values, pa.binary()).view(pa.string())


def test_all_columns_of_a_laion_table(write_parquet):
    path = write_parquet(
        {
            "URL": ["u", "v"],
            "text": ["a", None],
            "Aesthetic": pa.array([6.5, None], pa.float32()),
            "punsafe": [0.25, math.nan],
            "pwatermark": [0.5, math.inf],
            "similarity": pa.array([0.5, -math.inf], pa.float16()),
            "NSFW": pa.array(["UNLIKELY", None]).dictionary_encode(),
            "LANGUAGE": ["en", "de"],
            "WIDTH": pa.array([512, None], pa.int32()),
            "HEIGHT": pa.array([256, 100], pa.int64()),
        }
    )
    rows = all_rows(path, ALL_CUTS)
    assert rows.schema == SCHEMA
    assert rows.rows() == [
        ("a", False, 6.5, 0.25, 0.5, 0.5, 512.0, 256.0, "UNLIKELY", "en", 0),
        (None, False, None, None, None, None, None, 100.0, None, "de", 1),
    ]
    assert columns_of(path, one(path), ALL_CUTS) == set(SCHEMA.names()) - {"broken", "row"}


def test_columns_that_no_rule_reads_are_not_read(write_parquet):
    path = write_parquet({"TEXT": ["a"], "score": [7], "WIDTH": ["wide"], "punsafe": ["no"], "LANGUAGE": [1]})
    rules = CurationRules(unsafe=UnsafeRule(columns=False), language=LanguageRule(enabled=False))
    assert all_rows(path, rules).rows() == [("a", False, 7.0, *[None] * 7, 0)]
    assert columns_of(path, one(path), rules) == {"text", "score"}
    assert "'punsafe'" in refusal(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt"])
@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
def test_every_cut_gives_the_same_rows(write, tmp_path, name, batch_rows):
    texts = [f"{'ß漢' * (n % 7)} row {n}" for n in range(100)]
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"TEXT": texts}), path, row_group_size=7)
    else:
        lines = texts if name.endswith(".txt") else [json.dumps({"TEXT": t}, ensure_ascii=False) for t in texts]
        ends = ["\n", "\r\n", "\n\n"]
        write(name, "".join(line + ends[n % 3] for n, line in enumerate(lines)).rstrip().encode())
    whole = all_rows(path, batch_rows=batch_rows)
    assert whole["text"].to_list() == texts
    assert whole["row"].is_unique().all()
    for rows_per_piece in range(1, 40):
        assert all_rows(path, rows_per_piece=rows_per_piece, batch_rows=batch_rows).equals(whole)


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
            assert (text["text"], text["broken"]) == (None, True)
        else:
            assert (text["text"], text["broken"]) == (right, False)
        assert text["row"] == number


@pytest.mark.parametrize(
    "type_",
    [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(), pa.decimal128(25, 3), pa.decimal256(50, 3)],
)
def test_every_way_to_store_numbers(write_parquet, type_):
    path = write_parquet({"TEXT": ["a", "b"], "score": pa.array([6, None]).cast(type_)})
    assert all_rows(path, CurationRules())["score"].to_list() == [6.0, None]


def test_truth_values_huge_integers_and_columns_of_nulls(write_parquet):
    path = write_parquet({"TEXT": pa.nulls(2), "score": [True, None], "punsafe": pa.array([2**64 - 1, 0], pa.uint64())})
    rows = all_rows(path)
    assert rows["score"].to_list() == [1.0, None]
    assert rows["punsafe"].to_list() == [2.0**64, 0.0]
    assert rows["text"].to_list() == [None, None]
    assert rows["broken"].to_list() == [False, False]


def test_strings_beside_the_text_that_are_not_utf8(write_parquet):
    path = write_parquet({"TEXT": ["a", "b"], "LANGUAGE": bytes_as_strings([b"\xff", b"en"])})
    rows = all_rows(path)
    assert rows["language"].to_list() == [None, "en"]
    assert rows["broken"].to_list() == [False, False]


def test_very_long_texts_come_in_small_batches(write_parquet, monkeypatch):
    long = "ß" * 500_000
    monkeypatch.setattr("sidlsg.prompts.source.parquet._BATCH_BYTES", 10_000_000)
    texts = [f"{n}{long}" for n in range(25)]
    path = write_parquet({"TEXT": texts}, use_dictionary=False, compression="zstd")
    file = one(path)
    (piece,), _ = cut_pieces([file], 1 << 20)
    frames = list(read_batches(path, file, piece, NO_SCORE))
    assert max(map(len, frames)) < 11
    assert pl.concat(frames)["text"].to_list() == texts


def test_very_long_lines_are_cut(write):
    path = write("a.txt", b"x" * 1_000_000 + b"\nend")
    assert [(len(text), broken) for text, broken in all_rows(path).select("text", "broken").rows()] == [
        (8192 * 8 + 65536, False),
        (3, False),
    ]


def test_plain_text(write):
    path = write("a.txt", b"\xef\xbb\xbfone\r\n\n\xff two\nthree")
    assert all_rows(path).select("text", "broken", "row").rows() == [
        ("one", False, 0),
        (None, True, 9),
        ("three", False, 15),
    ]
    assert all_rows(path).schema == SCHEMA
    assert columns_of(path, one(path), NO_SCORE) == {"text"}


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_empty_files_have_no_rows(write, name):
    path = write(name, b"")
    check_file(path, one(path), NO_SCORE)
    assert all_rows(path).is_empty()


def test_an_empty_table_has_no_rows(write_parquet):
    assert all_rows(write_parquet({"TEXT": pa.array([], pa.string())})).is_empty()


def test_missing_columns_are_named_with_those_that_exist(write_parquet):
    path = write_parquet({"URL": ["u"], "alt": ["a"]})
    message = refusal(path)
    assert "no column 'TEXT' or 'caption' or 'prompt'" in message
    assert "it has: URL, alt; set columns.text to one of them" in message
    message = refusal(path, CurationRules(columns=Columns(text=("alt",))))
    assert "'AESTHETIC_SCORE'" in message
    assert "it has: URL, alt; set columns.score to one of them, or score.enabled to false" in message
    assert "columns.score, which names none" in refusal(path, CurationRules(columns=Columns(text=("alt",), score=())))


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        ({}, "set columns.watermark to one of them, or image.maximum_watermark to 1"),
        ({"maximum_watermark": 1.0, "minimum_similarity": 0.1}, "or image.minimum_similarity to 0"),
        (
            {"maximum_watermark": 1.0, "minimum_side": 64},
            "set columns.width to one of them, or image.minimum_side to 0",
        ),
        ({"maximum_watermark": 1.0, "maximum_aspect": 2.0}, "or image.maximum_aspect to 0"),
    ],
)
def test_cuts_by_the_image_need_their_columns(write_parquet, write, image, advice):
    path = write_parquet({"TEXT": ["a"]})
    rules = CurationRules(score=ScoreRule(enabled=False), image=ImageRule(enabled=True, **image))
    assert advice in refusal(path, rules)
    assert "is plain text" in refusal(write("a.txt"), rules)
    check_file(path, one(path), CurationRules(score=ScoreRule(enabled=False), image=ImageRule(**image)))


def test_plain_text_has_no_scores(write):
    message = refusal(write("a.txt"), CurationRules())
    assert "is plain text, which has no score" in message
    assert "set score.enabled to false" in message


def test_the_first_name_that_some_column_fits_wins(write_parquet):
    path = write_parquet({"Prompt": ["p"], "Caption": ["c"], "mine": [5.0], "score": [6.0]})
    assert all_rows(path).row(0)[0] == "c"
    rules = CurationRules(columns=Columns(text=("none", "PROMPT"), score=("MINE", "score")))
    assert all_rows(path, rules).row(0)[:3] == ("p", False, 5.0)


def test_columns_that_differ_in_case_alone(write_parquet):
    path = write_parquet({"text": ["low"], "TEXT": ["up"], "Score": [1.0], "SCORE": [2.0]})
    message = refusal(path)
    assert "the columns 'Score' and 'SCORE', and columns.score 'score' fits each" in message
    rules = CurationRules(columns=Columns(score=("SCORE",)))
    assert all_rows(path, rules).row(0)[:3] == ("up", False, 2.0)


def test_a_column_twice(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([["a"], ["b"]], names=["TEXT", "TEXT"]), path)
    assert "2 columns 'TEXT'" in refusal(path)


def test_columns_of_the_wrong_type(write_parquet):
    path = write_parquet({"TEXT": ["a"], "score": ["6"], "n": [1], "s": [{"x": 1}]})
    message = refusal(path, CurationRules())
    assert "column 'score' of" in message
    assert "holds string, not numbers; set columns.score to a column of numbers, out of: TEXT, n, s" in message
    assert "or set score.enabled to false to go without" in message
    assert "holds int64, not strings" in refusal(path, CurationRules(columns=Columns(text=("n",), score=("n",))))
    assert "holds struct" in refusal(path, CurationRules(columns=Columns(text=("s",), score=("n",))))
    file = one(path)
    (piece,), _ = cut_pieces([file], 10)
    with pytest.raises(InputError, match="not numbers"):
        list(read_batches(path, file, piece, CurationRules()))
    # Where no rule needs it, it is none.
    (batch,) = read_batches(path, file, piece, NO_SCORE)
    assert batch["score"].to_list() == [None]


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
    first, second = cut_pieces([file], 500)[0]
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


def test_one_row(write_parquet):
    path = write_parquet(
        {"TEXT": [f"t{n}" for n in range(10)], "score": [float(n) for n in range(10)]}, row_group_size=3
    )
    for row in (0, 2, 3, 9):
        found = read_row(path, one(path), NO_SCORE, row)
        assert found.schema == SCHEMA
        assert found.select("text", "score", "row").rows() == [(f"t{row}", float(row), row)]
    for row in (-1, 10):
        with pytest.raises(InputError, match=f"there is no row {row} in .*; its rows are 0 to 9"):
            read_row(path, one(path), NO_SCORE, row)
    path = write_parquet({"TEXT": pa.array([], pa.string())})
    with pytest.raises(InputError, match="it has no rows"):
        read_row(path, one(path), NO_SCORE, 0)


def test_one_line(write):
    path = write("a.txt", b"one\n\ntwo\n")
    assert read_row(path, one(path), NO_SCORE, 0)["text"].to_list() == ["one"]
    assert read_row(path, one(path), NO_SCORE, 5).select("text", "row").rows() == [("two", 5)]
    for row in (-1, 1, 4, 9, 1000):
        with pytest.raises(InputError, match=f"no row of .*a.txt is at {row}; .* byte offset"):
            read_row(path, one(path), NO_SCORE, row)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(write, name, encoding):
    assert "is UTF-16 or no text at all; save it as UTF-8" in refusal(
        write(name, "a prompt\nanother\n".encode(encoding))
    )


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
def test_texts_that_a_few_bytes_stand_for_are_bounded_before_they_are_whole(kind, tmp_path, monkeypatch):
    """A file of some KB whose texts would take gigabytes."""
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 4 << 20)
    path, text = tmp_path / "bomb.parquet", "y" * 20_000
    BOMBS[kind](text, path)
    assert path.stat().st_size < 20_000
    file = one(path)
    (piece,), _ = cut_pieces([file], 1 << 40)
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
