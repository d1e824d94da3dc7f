import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.prompts.explanation import explain
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import BalanceRule, CurationRules, DuplicatesRule, ImageRule, ScoreRule
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet

HELD_OUT = ["The man’s red hat on a wooden table", "Two dogs running along the beach"]
ROWS = [
    ("a large painting of mountains at dawn with a quiet lake and some trees", 7.0),  # 0: near 3, whose digest is lower
    ("A Large Painting of Mountains at Dawn with a Quiet Lake and Some Trees", 6.5),  # 1: the same text
    ("a large painting of mountains at  dawn with a quiet lake and some trees", 5.0),  # 2: below the cut
    ("a LARGE painting of the mountains at dawn with a quiet lake and some trees", 8.0),  # 3: kept
    ("the mans red hat on a wooden table", 7.0),  # 4: held out, its words
    ("the man's red hats on the wooden tables", 7.0),  # 5: held out, its words of meaning
    ("two dogs running along the beach today", 7.0),  # 6: like one that is held out
    ("<b></b>", 7.0),  # 7: nothing after cleaning
    ("IMG_1234.jpg", 7.0),  # 8: junk
    ("two words", 7.0),  # 9: short
    (None, 7.0),  # 10: no text
    (" ".join(f"xq{number}zjk" for number in range(40)), 7.0),  # 11: many tokens
    ("a bowl of fresh fruit", 7.0),  # 12: kept
    ("A Bowl of Fresh Fruit", 6.5),  # 13: the same text with a lower score
    ("a bowl of fresh vegetables", float("nan")),  # 14: no score
    ("тихое озеро в горах на рассвете", 7.0),  # 15: Russian, as it looks
    ("long " * 2000, 7.0),  # 16: too many bytes
]
RULES = CurationRules()


@pytest.fixture
def made(write_table, tmp_path):
    texts, scores = zip(*ROWS, strict=True)
    source = write_table(texts, scores)
    # Two shards, so that the right one has to be found.
    curate(source, tmp_path / "out", RULES, HELD_OUT, Execution(rows_per_shard=1))
    return tmp_path / "out"


def fate(made, row):
    return " / ".join(explain(f"in.parquet:{row}", made, HELD_OUT))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (2, "dropped by score, which keeps a score of at least 6: score 5.0"),
        (7, "dropped by clean"),
        (8, "dropped by junk, .*: file name"),
        (9, "dropped by length, which keeps 3 to 60 words: 2 words"),
        (10, "no text / dropped by text, .*: it has no text"),
        (14, "dropped by score, .*: no score"),
        (15, "dropped by language, .*: by its letters and words"),
        (16, "dropped by text, .*: 10000 bytes"),
        (11, "dropped by tokens, which keeps 1 to 75 tokens: it has [1-9]"),
        (4, "dropped by held_out: it has the words of \"The man's red hat"),
        (5, "dropped by held_out: it has the meaning words of"),
        (6, 'dropped by held_out_near: similarity 0.[789]. to "Two dogs'),
    ],
)
def test_the_step_and_its_reason_are_named(made, row, words):
    assert re.search(words, fate(made, row))


def test_a_kept_row_and_those_that_gave_way_to_it(made):
    record = PromptSet.load(made)
    assert len(record.shards) == record.count == 2
    kept = {row: fate(made, row) for row in (3, 12)}
    number = {row: int(line.rpartition("kept: it is prompt ")[2]) for row, line in kept.items()}
    assert sorted(number.values()) == [0, 1]
    for row in (0, 1):
        assert re.search(rf"near_duplicates: its group has prompt {number[3]}, .*similarity 0\.85", fate(made, row))
    assert f"dropped by duplicates: 2 rows have this text, and prompt {number[12]}" in fate(made, 13)
    assert fate(made, 13).endswith("was taken from in.parquet:12")
    text, rest = explain(str(number[12]), made, HELD_OUT)
    assert text == f'prompt {number[12]}: "a bowl of fresh fruit"'
    assert rest == "5 tokens, score 7.000, from in, in.parquet:12, 2 rows have its text"


def test_a_row_that_balance_dropped(write_table, tmp_path):
    source = write_table([f"{word} is a word for something" for word in ("zebra", "quilt", "lighthouse", "volcano")])
    rules = replace(RULES, balance=BalanceRule(maximum_per_bin=1, bin_tokens=75))
    curate(source, tmp_path / "out", rules, ["something else"])
    found = [" / ".join(explain(f"in.parquet:{row}", tmp_path / "out", ["something else"])) for row in range(4)]
    assert sum("kept" in line for line in found) == 1
    assert sum("dropped by balance" in line for line in found) == 3


def test_an_image_cut_reports_its_values(tmp_path):
    columns = {"TEXT": ["a boat on the lake", "a tree on the hill"], "WIDTH": [300, 900], "HEIGHT": [200, 900]}
    pq.write_table(pa.table({**columns, "pwatermark": [None, 0.5]}), tmp_path / "in.parquet")
    image = ImageRule(enabled=True, minimum_side=256)
    rules = replace(RULES, score=ScoreRule(enabled=False), image=image)
    curate(tmp_path / "in.parquet", tmp_path / "out", rules, HELD_OUT)
    (_, fate) = explain("in.parquet:0", tmp_path / "out", HELD_OUT)
    assert fate.endswith("no watermark that is a number, width 300.0, height 200.0")


def test_invalid_bytes_are_shown(tmp_path):
    (tmp_path / "in.txt").write_bytes(b"\xff a broken line\na tree on the hill\n")
    curate([str(tmp_path / "in.txt")], tmp_path / "out", replace(RULES, score=ScoreRule(enabled=False)), HELD_OUT)
    (_, fate) = explain("in.txt:0", tmp_path / "out", HELD_OUT)
    assert fate.endswith(': it has a text that is not UTF-8, "\\xff a broken line"')


def test_equal_texts_that_are_all_kept_are_distinguished(tmp_path):
    (tmp_path / "in.txt").write_text("a tree on the hill\n" * 3 + "a boat on the lake\n")
    rules = replace(RULES, score=ScoreRule(enabled=False), duplicates=DuplicatesRule(exact=False, similarity=0))
    curate([str(tmp_path / "in.txt")], tmp_path / "out", rules, HELD_OUT, Execution(rows_per_shard=1))
    fates = [explain(f"in.txt:{19 * row}", tmp_path / "out", HELD_OUT)[-1] for row in range(4)]
    assert sorted(fates) == [f"kept: it is prompt {identity}" for identity in range(4)]


def test_another_list_of_unsafe_words_is_refused(write_table, tmp_path):
    (tmp_path / "words.txt").write_text("dog\n")
    rules = rules_with({"unsafe.words_file": str(tmp_path / "words.txt")})
    source = write_table(["a dog on the hill", "a boat on the lake"], [7.0, 7.0])
    curate(source, tmp_path / "out", rules, HELD_OUT)
    assert "dropped by unsafe_words" in explain("in.parquet:0", tmp_path / "out", HELD_OUT)[-1]
    (tmp_path / "words.txt").write_text("cat\n")
    with pytest.raises(InputError, match=r"made with another list of unsafe words than the one .*words\.txt"):
        explain("in.parquet:0", tmp_path / "out", HELD_OUT)


def test_a_file_that_was_left_out_has_its_reason(write_table, tmp_path):
    good = write_table(["a dog on the hill", "a boat on the lake"], [7.0, 7.0])
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    uris = [str(good), str(tmp_path / "bad.parquet")]
    curate(uris, tmp_path / "out", RULES, HELD_OUT, Execution(skip_bad_files=True))
    (fate,) = explain("bad.parquet:0", tmp_path / "out", HELD_OUT)
    assert re.search(r"the file was left out: .*bad\.parquet is not a parquet file", fate)


def test_a_cut_refers_to_the_whole_set(made):
    with pytest.raises(InputError, match=r"6\.5 is a cut of the set .*out, which knows all rows; ask that one"):
        explain("in.parquet:0", made / "cuts" / "6.5", HELD_OUT)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("other.parquet:1", r"not a row of .*; give FILE:ROW with a file of its manifest \(in.parquet\), or an id"),
        ("in.parquet", "give FILE:ROW"),
        ("", "'' is not a row of"),
        ("in.parquet:999", "in.parquet"),
        ("7", "has no prompt 7; its ids go from 0 to 1"),
    ],
)
def test_an_invalid_row_is_refused(made, row, message):
    with pytest.raises(InputError, match=message):
        explain(row, made, HELD_OUT)


def test_another_held_out_list_is_refused(made):
    with pytest.raises(InputError, match="another held-out list"):
        explain("in.parquet:0", made, ["a cat"])
