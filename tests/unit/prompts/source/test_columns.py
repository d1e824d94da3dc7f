import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.prompts.rules import Columns, CurationRules, ImageRule, ScoreRule, UnsafeRule
from sidlsg.prompts.source.batches import check_file, read_batches
from sidlsg.prompts.source.files import find_inputs
from sidlsg.prompts.source.parquet import cut_pieces
from sidlsg.runtime.errors import InputError
from unit.prompts.source.reading import NO_SCORE, all_rows, one, refusal


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


def test_columns_of_the_wrong_type(write_parquet):
    path = write_parquet({"TEXT": ["a"], "score": ["high"], "n": [1], "s": [{"x": 1}]})
    message = refusal(path, CurationRules())
    assert "column 'score' of" in message
    assert "holds texts, not numbers; set columns.score to a column of numbers, out of: n" in message
    assert "or set score.enabled to false to go without" in message
    assert "holds int64, not strings" in refusal(path, CurationRules(columns=Columns(text=("n",), score=("n",))))
    assert "holds struct" in refusal(path, CurationRules(columns=Columns(text=("s",), score=("n",))))
    file = one(path)
    (piece,) = cut_pieces(0, file, 10)
    with pytest.raises(InputError, match="not numbers"):
        list(read_batches(path, file, piece, CurationRules()))
    # Where no rule needs a score, there is none.
    (batch,) = read_batches(path, file, piece, NO_SCORE)
    assert batch["score"].to_list() == [None]


def test_only_columns_of_strings_are_offered_for_the_text(write_parquet):
    columns = {"n": [1], "alt": ["a"], "all": [["b"]], "box": [{"x": 1}], "none": pa.nulls(1)}
    assert "of its columns these hold strings: alt, all; set columns.text" in refusal(write_parquet(columns))


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
    assert "is in a folder punsafe=high, which is not a number for columns.punsafe; rename" in refusal(path)
    rules = CurationRules(score=ScoreRule(enabled=False), unsafe=UnsafeRule(columns=False))
    assert all_rows(path, rules)["score"].to_list() == [None]


def test_folders_above_the_given_uri_are_no_columns(write):
    path = write("score=high/LANGUAGE=de/a.csv", b"caption,score\na,7\n")
    for place in (path, path.parent):
        (file,) = find_inputs([str(place)])
        (frame,) = read_batches(path, file, next(cut_pieces(0, file, 1 << 40)), CurationRules())
        assert frame.select("score", "language").rows() == [(7.0, None)]


def test_a_rows_own_value_takes_precedence_over_its_folders(write):
    path = write("LANGUAGE=de/a.csv", b"caption,language\na,en\nb,\n")
    assert all_rows(path)["language"].to_list() == ["en", "de"]
