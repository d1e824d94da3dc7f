import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidlsg.prompts.rules import Columns, CurationRules
from sidlsg.prompts.source.batches import SCHEMA, check_file
from sidlsg.prompts.source.problems import NO_OBJECT, NO_TEXT, NOT_A_STRING, NOT_UTF8, UNREAD_SAFETY
from unit.prompts.source.reading import all_rows, one, refusal


def lines(*objects):
    return b"".join(json.dumps(found).encode() + b"\n" for found in objects)


def test_keys_are_columns(write):
    path = write(
        "a.jsonl",
        lines(
            {"TEXT": "ß", "aesthetic": 6, "NSFW": "UNSURE", "LANGUAGE": "en", "punsafe": 0.5, "more": [1]},
            {"caption": "b", "Score": True, "language": 3},
            {"other": 1},
        ),
    )
    rows = all_rows(path, CurationRules(columns=Columns(language=("LANGUAGE", "x"))))
    assert rows.schema == SCHEMA
    some = rows.select("text", "problem", "score", "punsafe", "nsfw", "language").rows()
    assert some == [
        ("ß", None, 6.0, 0.5, "UNSURE", "en"),
        ("b", None, 1.0, None, None, None),
        (None, NO_TEXT, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"nothing", NO_OBJECT),
        (b'{"TEXT": "a"', NO_OBJECT),
        (b'{"TEXT": "\xff"}', NOT_UTF8),
        (b'["a"]', NO_OBJECT),
        (b'"a"', NO_OBJECT),
        (b"null", NO_OBJECT),
        (b'{"TEXT": 1}', NOT_A_STRING),
        (b'{"TEXT": [1]}', NOT_A_STRING),
        (b'{"TEXT": []}', NO_TEXT),
        (b'{"TEXT": "\\ud800"}', NOT_A_STRING),
        (b'{"text": "a", "Text": "b"}', NO_OBJECT),
        (b'{"TEXT": "a"} {"TEXT": "b"}', NO_OBJECT),
        (b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", NO_OBJECT),
        (b'{"TEXT": "a", "x": ' + b"1" * 5000 + b"}", NO_OBJECT),
    ],
)
def test_a_line_without_an_object_or_a_text_is_a_row_without_a_text(write, line, problem):
    path = write("a.jsonl", b'{"TEXT": "first"}\n' + line + b'\r\n{"TEXT": "last"}')
    assert all_rows(path).select("text", "problem").rows() == [("first", None), (None, problem), ("last", None)]


def test_values_that_are_not_numbers(write):
    values = [None, "six", "1_0", "", float("nan"), float("inf"), [6], 10**400, {"x": 1}]
    path = write("a.jsonl", lines(*({"TEXT": "a", "score": value} for value in values)))
    rows = all_rows(path)
    assert rows["score"].to_list() == [None] * len(values)
    assert rows["text"].to_list() == ["a"] * len(values)
    assert rows["problem"].null_count() == len(values)


def test_a_null_is_a_missing_text(write):
    rows = all_rows(write("a.jsonl", lines({"TEXT": None, "caption": "c"})))
    assert rows.select("text", "problem").rows() == [(None, NO_TEXT)]


def test_the_first_thousand_objects_say_what_a_file_has(write):
    plain = [{"TEXT": "a"}] * 999
    path = write("a.jsonl", lines(*plain, {"TEXT": "a", "score": 6}))
    assert check_file(path, one(path), CurationRules()) == {"text", "score"}
    message = refusal(write("a.jsonl", lines(*plain, {"TEXT": "a"}, {"TEXT": "a", "score": 6})), CurationRules())
    assert "it has: TEXT; none of them holds numbers" in message


def test_a_file_that_is_not_jsonl_is_refused(write):
    assert "no JSON object in its first 2 lines" in refusal(write("a.jsonl", b"a prompt\nanother\n"))
    assert "no column 'TEXT'" in refusal(write("a.jsonl", lines({"url": "u"})))


def test_values_of_the_wrong_kind_are_named(write):
    message = refusal(
        write("a.jsonl", lines({"TEXT": "a", "score": None}, {"TEXT": "a", "score": "high"})), CurationRules()
    )
    assert "column 'score' of" in message
    assert "holds str, not numbers; set score.enabled to false to go without" in message
    message = refusal(write("a.jsonl", lines({"TEXT": [1]})))
    assert "holds list, not strings; give a file with a column of strings" in message
    assert "fits each" in refusal(write("a.jsonl", lines({"Text": "a", "text": "b"})))


def test_a_value_of_the_wrong_kind_is_missing(write):
    file = write("a.jsonl", lines({"TEXT": "a", "score": "high"}, {"TEXT": "b", "score": 7}))
    check_file(file, one(file), CurationRules())
    assert all_rows(file)["score"].to_list() == [None, 7.0]


def test_numbers_may_be_written_as_text(write):
    objects = {"TEXT": "a", "score": " 6.5\n"}, {"TEXT": "b", "score": 7, "punsafe": "1e-1"}
    rows = all_rows(write("a.jsonl", lines(*objects)))
    assert rows.select("score", "punsafe").rows() == [(6.5, None), (7.0, 0.1)]


def test_each_text_of_a_list_is_a_separate_row(write):
    objects = {"TEXT": ["a", "b"], "score": 6}, {"TEXT": [], "score": 7}, {"TEXT": "c", "score": 8}
    path = write("a.jsonl", lines(*objects))
    second, third = (len(lines(*objects[:count])) for count in (1, 2))
    expected = [("a", 6.0, 0), ("b", 6.0, 0), (None, 7.0, second), ("c", 8.0, third)]
    assert all_rows(path).select("text", "score", "row").rows() == expected


def test_only_keys_that_hold_strings_are_offered_for_the_text(write):
    message = refusal(write("a.jsonl", lines({"alt": "a", "n": 1, "all": ["b"], "box": {}, "half": None})))
    assert "of its columns these hold strings: alt, all; set columns.text to one of them" in message


@pytest.mark.parametrize("safety", [{"punsafe": "likely"}, {"punsafe": [0.9]}, {"NSFW": True}, {"NSFW": ["NSFW"]}])
def test_an_unreadable_safety_value_drops_the_text(write, safety):
    path = write("a.jsonl", lines({"TEXT": "a", "punsafe": 0.1, "NSFW": "UNLIKELY"}, {"TEXT": "b", **safety}))
    found = all_rows(path)
    assert found["text"].to_list() == ["a", None]
    assert found["problem"].to_list() == [None, UNREAD_SAFETY]


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


def is_number(value):
    if not isinstance(value, str):
        return isinstance(value, bool | int | float)
    with contextlib.suppress(ValueError):
        float(value)
        return value.isascii() and "_" not in value
    return False


def readable_texts(found):
    text, punsafe, nsfw = (found.get(key) for key in ("TEXT", "punsafe", "NSFW"))
    texts = (text or [None]) if isinstance(text, list) else [text]
    readable = (punsafe in (None, "") or is_number(punsafe)) and (nsfw is None or isinstance(nsfw, str))
    return [one if readable and isinstance(one, str) else None for one in texts]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    objects=st.lists(st.dictionaries(st.sampled_from(["TEXT", "score", "NSFW", "punsafe", "x"]), values), min_size=1)
)
def test_any_objects_are_read_alike_however_cut(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(lines(*objects))
    whole = all_rows(path)
    assert whole["text"].to_list() == [text for found in objects for text in readable_texts(found)]
    assert all_rows(path, rows_per_piece=1, batch_rows=2).equals(whole)
