import gzip
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.prompts.rules import CurationRules, ImageRule, LanguageRule, ScoreRule, TextRule, UnsafeRule
from sidlsg.prompts.source.batches import SCHEMA, check_file, read_row
from sidlsg.prompts.source.problems import NO_TEXT, NOT_A_NUMBER, NOT_UTF8, UNREAD_SAFETY
from sidlsg.runtime.errors import InputError
from unit.prompts.source.reading import NO_SCORE, all_rows, one, refusal

ALL_CUTS = CurationRules(image=ImageRule(enabled=True, minimum_similarity=0.3, minimum_side=256, maximum_aspect=2.0))


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
    assert rows["problem"].to_list() == [NO_TEXT, NO_TEXT]


def test_other_strings_than_the_text_that_are_not_utf8(write_parquet):
    path = write_parquet({"TEXT": ["a", "b"], "LANGUAGE": bytes_as_strings([b"\xff", b"en"])})
    rows = all_rows(path)
    assert rows["language"].to_list() == [None, "en"]
    assert rows["problem"].to_list() == [None, None]


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
    assert "is not text, or is UTF-16 without a byte order mark; save it as UTF-8" in refusal(
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


def test_a_file_that_is_not_csv_is_an_error_with_advice(write):
    path = write("a.csv", b"caption\na dog, asleep\n")
    with pytest.raises(InputError, match=r"a.csv is not CSV with the separator ',': .*Expected 1 columns, got 2"):
        all_rows(path)
    assert "these hold strings: a dog; set columns.text" in refusal(write("b.csv", b"a dog\na cat\n"))
    assert all_rows(write("c.csv", b"")).is_empty()
    assert all_rows(write("d.csv", b"caption,score\n")).is_empty()


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.binary())])
def test_each_text_of_a_list_is_a_separate_row(write_parquet, kind):
    texts = pa.array([["a", "b"], [], None, ["c", None]], kind)
    path = write_parquet({"TEXT": texts, "score": [6.0, 7.0, 8.0, 9.0]}, row_group_size=2)
    rows = all_rows(path)
    assert rows.select("text", "score", "row").rows() == [
        *(("a", 6.0, 0), ("b", 6.0, 0)),
        *((None, 7.0, 1), (None, 8.0, 2), ("c", 9.0, 3), (None, 9.0, 3)),
    ]
    assert all_rows(path, rows_per_piece=2).equals(rows)
    assert read_row(path, one(path), NO_SCORE, 0)["text"].to_list() == ["a", "b"]


def test_numbers_may_be_written_as_text(write_parquet):
    scores = ["6.5", " 7\n", "high", "", None, "nan"]
    rows = all_rows(write_parquet({"TEXT": ["a"] * 6, "score": scores, "punsafe": ["0.5"] * 6}), CurationRules())
    assert rows["score"].to_list() == [6.5, 7.0, None, None, None, None]
    assert rows["problem"].to_list() == [None, None, NOT_A_NUMBER, *["no score"] * 3]
    assert rows["given"].to_list() == [None, None, b"high", None, None, None]
    assert rows["punsafe"].to_list() == [0.5] * 6


def test_an_unreadable_safety_value_drops_the_text(write, write_parquet):
    columns = {"TEXT": ["a", "b", "c"], "punsafe": ["0.1", "likely", ""]}
    csv = "".join(f"{text},{punsafe}\n" for text, punsafe in zip(*columns.values(), strict=True))
    for path in (write_parquet(columns), write("a.csv", f"TEXT,punsafe\n{csv}".encode())):
        rows = all_rows(path)
        assert rows["text"].to_list() == ["a", None, "c"]
        assert rows["problem"].to_list() == [None, UNREAD_SAFETY, None]


def test_an_unreadable_safety_value_takes_precedence_over_an_unreadable_score(write):
    path = write("a.csv", b"TEXT,score,punsafe\na,high,likely\nb,high,0\n")
    for rules, score in ((NO_SCORE, None), (CurationRules(), NOT_A_NUMBER)):
        assert all_rows(path, rules).select("text", "problem").rows() == [(None, UNREAD_SAFETY), ("b", score)]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet"])
def test_text_that_is_not_utf_8_is_read_in_the_given_encoding(write, write_parquet, name):
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
