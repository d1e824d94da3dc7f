import gzip
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

from sidlsg.prompts.rules import Columns, CurationRules, ImageRule, LanguageRule, ScoreRule, TextRule, UnsafeRule
from sidlsg.prompts.source import parquet
from sidlsg.prompts.source.batches import SCHEMA, check_file, read_batches, read_row
from sidlsg.prompts.source.files import find_inputs
from sidlsg.prompts.source.parquet import cut_pieces
from sidlsg.prompts.source.problems import NO_TEXT, NOT_A_NUMBER, NOT_UTF8, UNREAD_SAFETY
from sidlsg.runtime.errors import InputError
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


def test_all_check_file_a_laion_table(write_parquet):
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
        ("a", None, 6.5, 0.25, 0.5, 0.5, 512.0, 256.0, "UNLIKELY", "en", 0, None),
        (None, NO_TEXT, None, None, None, None, None, 100.0, None, "de", 1, None),
    ]
    assert check_file(path, one(path), ALL_CUTS) == set(SCHEMA.names()) - {"problem", "row", "given"}


def test_columns_that_no_rule_reads_are_not_read(write_parquet):
    path = write_parquet({"TEXT": ["a"], "score": [7], "WIDTH": ["wide"], "punsafe": ["no"], "LANGUAGE": [1]})
    rules = CurationRules(unsafe=UnsafeRule(columns=False), language=LanguageRule(enabled=False))
    assert all_rows(path, rules).rows() == [("a", None, 7.0, *[None] * 7, 0, None)]
    assert check_file(path, one(path), rules) == {"text", "score"}
    assert "'punsafe'" in refusal(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt"])
@pytest.mark.parametrize("batch_rows", [1, 1000])
def test_every_cut_gives_the_same_rows(write, tmp_path, name, batch_rows):
    texts = [f"{'ß漢' * (n % 7)} row {n}" for n in range(50)]
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
    for rows_per_piece in (1, 2, 5, 7, 20):
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
            assert (text["text"], text["problem"], text["given"]) == (None, NOT_UTF8, expected)
        else:
            assert (text["text"], text["problem"]) == (right, NO_TEXT if right is None else None)
        assert text["row"] == number


@pytest.mark.parametrize(
    "type_",
    [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(), pa.decimal128(25, 3), pa.decimal256(50, 3)],
)
def test_every_way_to_store_numbers(write_parquet, type_):
    path = write_parquet({"TEXT": ["a", "b"], "score": pa.array([6, None]).cast(type_)})
    assert all_rows(path, CurationRules())["score"].to_list() == [6.0, None]


def test_truth_values_huge_integers_and_check_file_nulls(write_parquet):
    path = write_parquet({"TEXT": pa.nulls(2), "score": [True, None], "punsafe": pa.array([2**64 - 1, 0], pa.uint64())})
    rows = all_rows(path)
    assert rows["score"].to_list() == [1.0, None]
    assert rows["punsafe"].to_list() == [2.0**64, 0.0]
    assert rows["text"].to_list() == [None, None]
    assert rows["problem"].to_list() == [NO_TEXT, NO_TEXT]


def test_strings_beside_the_text_that_are_not_utf8(write_parquet):
    path = write_parquet({"TEXT": ["a", "b"], "LANGUAGE": bytes_as_strings([b"\xff", b"en"])})
    rows = all_rows(path)
    assert rows["language"].to_list() == [None, "en"]
    assert rows["problem"].to_list() == [None, None]


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
    assert [(len(text), problem) for text, problem in all_rows(path).select("text", "problem").rows()] == [
        (8192 * 8 + 65536, None),
        (3, None),
    ]


def test_plain_text(write):
    path = write("a.txt", b"\xef\xbb\xbfone\r\n\n\xff two\nthree")
    assert all_rows(path).select("text", "problem", "row").rows() == [
        ("one", None, 0),
        (None, NOT_UTF8, 9),
        ("three", None, 15),
    ]
    assert all_rows(path).schema == SCHEMA
    assert check_file(path, one(path), NO_SCORE) == {"text"}


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
    assert "of its columns these hold strings: URL, alt; set columns.text to one of them" in message
    message = refusal(path, CurationRules(columns=Columns(text=("alt",))))
    assert "'AESTHETIC_SCORE'" in message
    assert "it has: URL, alt; none of them holds numbers; give a file with one that does" in message
    assert message.endswith("or set score.enabled to false")
    assert "columns.score, which names none" in refusal(path, CurationRules(columns=Columns(text=("alt",), score=())))


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        ({}, "none of them holds numbers; give a file with one that does, or set image.maximum_watermark to 1"),
        ({"maximum_watermark": 1.0, "minimum_similarity": 0.1}, "or set image.minimum_similarity to 0"),
        (
            {"maximum_watermark": 1.0, "minimum_side": 64},
            "has no column 'WIDTH', which image.minimum_side needs",
        ),
        ({"maximum_watermark": 1.0, "maximum_aspect": 2.0}, "or set image.maximum_aspect to 0"),
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
    assert all_rows(path, rules).row(0)[:3] == ("p", None, 5.0)


def test_columns_that_differ_in_case_alone(write_parquet):
    path = write_parquet({"text": ["low"], "TEXT": ["up"], "Score": [1.0], "SCORE": [2.0]})
    message = refusal(path)
    assert "the columns 'Score' and 'SCORE', and columns.score 'score' fits each" in message
    rules = CurationRules(columns=Columns(score=("SCORE",)))
    assert all_rows(path, rules).row(0)[:3] == ("up", None, 2.0)


def test_a_column_twice(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([["a"], ["b"]], names=["TEXT", "TEXT"]), path)
    assert "2 columns 'TEXT'" in refusal(path)


def test_check_file_the_wrong_type(write_parquet):
    path = write_parquet({"TEXT": ["a"], "score": ["high"], "n": [1], "s": [{"x": 1}]})
    message = refusal(path, CurationRules())
    assert "column 'score' of" in message
    assert "holds texts, not numbers; set columns.score to a column of numbers, out of: n" in message
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
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_wide_text_without_a_byte_order_mark_is_refused(write, name, encoding):
    assert "is no text, or UTF-16 without a byte order mark; save it as UTF-8" in refusal(
        write(name, "a prompt\nanother\n".encode(encoding))
    )


def test_csv_has_columns_by_name_and_rows_by_number(write):
    data = 'URL,Caption,score,LANGUAGE\r\nu,"a ""red"" dog, asleep",6.5,en\r\n,"two\nlines", 7 ,\r\nu,,,de\r\n'
    path = write("a.csv", data.encode())
    rows = all_rows(path, CurationRules(), batch_rows=2)
    assert rows.schema == SCHEMA
    assert rows.select("text", "problem", "score", "language", "row").rows() == [
        ('a "red" dog, asleep', None, 6.5, "en", 0),
        ("two\nlines", None, 7.0, None, 1),
        (None, NO_TEXT, None, "de", 2),
    ]
    assert check_file(path, one(path), CurationRules()) == {"text", "score", "language"}
    assert read_row(path, one(path), NO_SCORE, 1)["text"].to_list() == ["two\nlines"]
    with pytest.raises(InputError, match="is at 3; rows of csv are counted from 0"):
        read_row(path, one(path), NO_SCORE, 3)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_of_other_programs(write, separator, encoding):
    data = f'caption{separator}score\n"a{separator} bä"{separator}6\n'.encode(encoding)
    for name, packed in (("a.csv", data), ("a.tsv.gz", gzip.compress(data))):
        assert all_rows(write(name, packed)).select("text", "score").rows() == [(f"a{separator} bä", 6.0)]


def test_what_is_no_csv_is_named_with_what_to_do(write):
    path = write("a.csv", b"caption\na dog, asleep\n")
    with pytest.raises(InputError, match=r"a.csv is not CSV with the separator ',': .*Expected 1 columns, got 2"):
        all_rows(path)
    assert "these hold strings: a dog; set columns.text" in refusal(write("b.csv", b"a dog\na cat\n"))
    assert all_rows(write("c.csv", b"")).is_empty()
    assert all_rows(write("d.csv", b"caption,score\n")).is_empty()


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.binary())])
def test_each_text_of_a_list_is_a_row_of_its_own(write_parquet, kind):
    texts = pa.array([["a", "b"], [], None, ["c", None]], kind)
    path = write_parquet({"TEXT": texts, "score": [6.0, 7.0, 8.0, 9.0]}, row_group_size=2)
    rows = all_rows(path)
    assert rows.select("text", "score", "row").rows() == [
        *(("a", 6.0, 0), ("b", 6.0, 0)),
        *((None, 7.0, 1), (None, 8.0, 2), ("c", 9.0, 3), (None, 9.0, 3)),
    ]
    assert all_rows(path, rows_per_piece=2).equals(rows)
    assert read_row(path, one(path), NO_SCORE, 0)["text"].to_list() == ["a", "b"]


def test_only_check_file_strings_are_offered_for_the_text(write_parquet):
    columns = {"n": [1], "alt": ["a"], "all": [["b"]], "box": [{"x": 1}], "none": pa.nulls(1)}
    assert "of its columns these hold strings: alt, all; set columns.text" in refusal(write_parquet(columns))


def test_numbers_may_be_written_as_text(write_parquet):
    scores = ["6.5", " 7\n", "high", "", None, "nan"]
    rows = all_rows(write_parquet({"TEXT": ["a"] * 6, "score": scores, "punsafe": ["0.5"] * 6}), CurationRules())
    assert rows["score"].to_list() == [6.5, 7.0, None, None, None, None]
    assert rows["problem"].to_list() == [None, None, NOT_A_NUMBER, *["no score"] * 3]
    assert rows["given"].to_list() == [None, None, b"high", None, None, None]
    assert rows["punsafe"].to_list() == [0.5] * 6


def test_what_is_said_of_safety_and_cannot_be_read_is_not_taken_for_silence(write, write_parquet):
    columns = {"TEXT": ["a", "b", "c"], "punsafe": ["0.1", "likely", ""]}
    csv = "".join(f"{text},{punsafe}\n" for text, punsafe in zip(*columns.values(), strict=True))
    for path in (write_parquet(columns), write("a.csv", f"TEXT,punsafe\n{csv}".encode())):
        rows = all_rows(path)
        assert rows["text"].to_list() == ["a", None, "c"]
        assert rows["problem"].to_list() == [None, UNREAD_SAFETY, None]


def test_safety_that_cannot_be_read_goes_before_a_score_that_cannot(write):
    path = write("a.csv", b"TEXT,score,punsafe\na,high,likely\nb,high,0\n")
    for rules, score in ((NO_SCORE, None), (CurationRules(), NOT_A_NUMBER)):
        assert all_rows(path, rules).select("text", "problem").rows() == [(None, UNREAD_SAFETY), ("b", score)]


def test_folders_of_a_partitioned_table_are_columns(write, write_parquet, tmp_path):
    folder = "LANGUAGE=de/score=6.5"
    (tmp_path / folder).mkdir(parents=True)
    for path in (
        write(f"{folder}/a.txt"),
        write(f"{folder}/a.jsonl", b'{"TEXT": "a"}\n'),
        write(f"{folder}/a.csv", b"caption,n\na,1\n"),
        write_parquet({"TEXT": ["a"]}, f"{folder}/a.parquet"),
    ):
        check_file(path, one(path), CurationRules())
        assert all_rows(path, CurationRules()).select("text", "score", "language").rows() == [("a", 6.5, "de")]
    path = write("LANGUAGE=__HIVE_DEFAULT_PARTITION__/score=__HIVE_DEFAULT_PARTITION__/a.txt")
    found = all_rows(path, CurationRules()).select("score", "language", "problem").rows()
    assert found == [(None, None, "no score")]
    path = write("punsafe=high/score=high/a.txt")
    assert "is in a folder punsafe=high, which is no number for columns.punsafe; rename" in refusal(path)
    rules = CurationRules(score=ScoreRule(enabled=False), unsafe=UnsafeRule(columns=False))
    assert all_rows(path, rules)["score"].to_list() == [None]


def test_folders_above_the_given_place_are_no_columns(write):
    path = write("score=high/LANGUAGE=de/a.csv", b"caption,score\na,7\n")
    for place in (path, path.parent):
        (file,) = find_inputs([str(place)])
        (frame,) = read_batches(path, file, cut_pieces([file], 1 << 40)[0][0], CurationRules())
        assert frame.select("score", "language").rows() == [(7.0, None)]


def test_what_a_row_says_itself_goes_before_its_folders(write):
    path = write("LANGUAGE=de/a.csv", b"caption,language\na,en\nb,\n")
    assert all_rows(path)["language"].to_list() == ["en", "de"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet"])
def test_text_that_is_not_utf_8_is_read_in_the_encoding_that_is_named(write, write_parquet, name):
    texts = ["a café", "a café".encode("cp1252"), "a dog"]
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    if name == "a.parquet":
        path = write_parquet({"TEXT": pa.array(raw, pa.binary())}, name)
    else:
        lines = {"a.txt": b"%s\n", "a.jsonl": b'{"TEXT": "%s"}\n', "a.csv": b'"%s"\n'}[name]
        path = write(name, b"TEXT\n" * name.endswith("csv") + b"".join(lines % text for text in raw))
    assert all_rows(path).select("text", "problem").rows()[1:] == [(None, NOT_UTF8), ("a dog", None)]
    rules = CurationRules(score=ScoreRule(enabled=False), text=TextRule(encoding="windows-1252"))
    # What is UTF-8 stays so, though it could be read otherwise.
    assert all_rows(path, rules)["text"].to_list() == ["a café", "a café", "a dog"]


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
