import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source import Prompt, read_source


def test_rows_come_in_order_with_their_numbers_over_all_row_groups(tmp_path):
    path = tmp_path / "in.parquet"
    texts = [f"text {i}" for i in range(10)]
    table = pa.table({"AESTHETIC_SCORE": [i / 2 for i in range(10)], "x": [0] * 10, "TEXT": texts})
    pq.write_table(table, path, row_group_size=3)
    assert list(read_source(path, CurationRules())) == [Prompt(f"text {i}", i, i / 2) for i in range(10)]


def test_nulls_become_empty_text_and_nan(write_table):
    (first, second) = read_source(write_table([None, "a"], [1.0, None]), CurationRules())
    assert first == Prompt("", 0, 1.0)
    assert second.text == "a"
    assert math.isnan(second.score)


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("score_type", [pa.float16(), pa.float32(), pa.float64(), pa.int8()])
def test_every_way_to_store_strings_and_numbers(tmp_path, text_type, score_type):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"t": pa.array(["ä"]).cast(text_type), "s": pa.array([6]).cast(score_type)}), path)
    rules = CurationRules(text_column="t", score_column="s")
    assert list(read_source(path, rules)) == [Prompt("ä", 0, 6.0)]


def refusal(path, **rules):
    with pytest.raises(InputError) as caught:
        list(read_source(path, CurationRules(**rules)))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.parquet")
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"TEXT,AESTHETIC_SCORE\na,6\n"])
def test_other_formats(tmp_path, content):
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    assert "not a parquet file" in refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_file(write_table, share):
    path = write_table([f"a text {i}" for i in range(1000)])
    content = path.read_bytes()
    path.write_bytes(content[: max(5, int(share * len(content)))])
    assert "truncated or damaged" in refusal(path)


def test_damaged_page(tmp_path):
    path = tmp_path / "in.parquet"
    table = pa.table({"TEXT": [f"a text {i}" for i in range(1000)], "AESTHETIC_SCORE": [6.0] * 1000})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = path.read_bytes()
    assert content.count(b"a text 777") == 1
    path.write_bytes(content.replace(b"a text 777", b"a text 778"))
    assert "truncated or damaged" in refusal(path)


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "in.parquet"
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\x00\x00\x00\x00\x01\x00\x00\x00"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"TEXT": text, "AESTHETIC_SCORE": [6.0]}), path)
    assert "not UTF-8" in refusal(path)


def test_missing_columns_are_named_with_those_that_exist(write_table):
    path = write_table(["a"])
    text = refusal(path, text_column="caption")
    assert "no column 'caption'" in text
    assert "URL, TEXT, AESTHETIC_SCORE" in text
    assert "text_column" in text
    score = refusal(path, score_column="score")
    assert "no column 'score'" in score
    assert "URL, TEXT, AESTHETIC_SCORE" in score


def test_columns_of_the_wrong_type(write_table):
    path = write_table(["a"])
    assert "'AESTHETIC_SCORE' of" in refusal(path, text_column="AESTHETIC_SCORE", score_column="TEXT")
    assert "holds string, not numbers" in refusal(path, score_column="URL")


def test_a_column_twice(tmp_path):
    path = tmp_path / "in.parquet"
    table = pa.table([["a"], ["b"], [6.0]], names=["TEXT", "TEXT", "AESTHETIC_SCORE"])
    pq.write_table(table, path)
    assert "2 columns 'TEXT'" in refusal(path)
