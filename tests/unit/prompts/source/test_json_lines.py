import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidlsg.errors import InputError
from sidlsg.prompts.rules import Columns, CurationRules
from sidlsg.prompts.source.batches import SCHEMA, check_file, columns_of
from unit.prompts.source.reading import NO_SCORE, all_rows, one


def lines(*objects):
    return b"".join(json.dumps(found).encode() + b"\n" for found in objects)


def refusal(path, rules=NO_SCORE):
    with pytest.raises(InputError) as caught:
        check_file(path, one(path), rules)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


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
    some = rows.select("text", "broken", "score", "punsafe", "nsfw", "language").rows()
    assert some == [
        ("ß", False, 6.0, 0.5, "UNSURE", "en"),
        ("b", False, 1.0, None, None, None),
        (None, False, None, None, None, None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"nothing",
        b'{"TEXT": "a"',
        b'{"TEXT": "\xff"}',
        b'["a"]',
        b'"a"',
        b"null",
        b'{"TEXT": 1}',
        b'{"TEXT": ["a"]}',
        b'{"TEXT": "\\ud800"}',
        b'{"text": "a", "Text": "b"}',
        b'{"TEXT": "a"} {"TEXT": "b"}',
        b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"TEXT": "a", "x": ' + b"1" * 5000 + b"}",
    ],
)
def test_a_line_that_is_no_object_with_a_text_is_broken(write, line):
    path = write("a.jsonl", b'{"TEXT": "first"}\n' + line + b'\r\n{"TEXT": "last"}')
    assert all_rows(path).select("text", "broken").rows() == [("first", False), (None, True), ("last", False)]


def test_numbers_that_are_none(write):
    values = [None, "6", float("nan"), float("inf"), [6], 10**400, {"x": 1}]
    path = write("a.jsonl", lines(*({"TEXT": "a", "score": value} for value in values)))
    rows = all_rows(path)
    assert rows["score"].to_list() == [None] * len(values)
    assert not rows["broken"].any()


def test_a_null_is_a_missing_text(write):
    rows = all_rows(write("a.jsonl", lines({"TEXT": None, "caption": "c"})))
    assert rows.select("text", "broken").rows() == [(None, False)]


def test_the_first_thousand_objects_say_what_a_file_has(write):
    plain = [{"TEXT": "a"}] * 999
    path = write("a.jsonl", lines(*plain, {"TEXT": "a", "score": 6}))
    assert columns_of(path, one(path), CurationRules()) == {"text", "score"}
    message = refusal(write("a.jsonl", lines(*plain, {"TEXT": "a"}, {"TEXT": "a", "score": 6})), CurationRules())
    assert "it has: TEXT; set columns.score to one of them, or score.enabled to false" in message


def test_what_is_no_jsonl_is_refused(write):
    assert "no JSON object in its first 2 lines" in refusal(write("a.jsonl", b"a prompt\nanother\n"))
    assert "no column 'TEXT'" in refusal(write("a.jsonl", lines({"url": "u"})))


def test_values_of_the_wrong_kind_are_named(write):
    message = refusal(
        write("a.jsonl", lines({"TEXT": "a", "score": None}, {"TEXT": "a", "score": "6.5"})), CurationRules()
    )
    assert "column 'score' of" in message
    assert "holds str, not numbers; set columns.score to a column of numbers, out of: TEXT, or set" in message
    message = refusal(write("a.jsonl", lines({"TEXT": ["a"]})))
    assert "holds list, not strings; give a file with a column of strings" in message
    assert "fits each" in refusal(write("a.jsonl", lines({"Text": "a", "text": "b"})))


def test_one_value_of_the_wrong_kind_is_a_row_without_one(write):
    file = write("a.jsonl", lines({"TEXT": "a", "score": "high"}, {"TEXT": "b", "score": 7}))
    check_file(file, one(file), CurationRules())
    assert all_rows(file)["score"].to_list() == [None, 7.0]


@pytest.mark.parametrize("safety", [{"punsafe": "0.9"}, {"punsafe": [0.9]}, {"NSFW": True}, {"NSFW": ["NSFW"]}])
def test_what_is_said_of_safety_and_cannot_be_read_is_not_taken_for_silence(write, safety):
    path = write("a.jsonl", lines({"TEXT": "a", "punsafe": 0.1, "NSFW": "UNLIKELY"}, {"TEXT": "b", **safety}))
    found = all_rows(path)
    assert found["text"].to_list() == ["a", None]
    assert found["broken"].to_list() == [False, True]


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


def readable_text(found):
    safety = (found.get("punsafe"), (bool, int, float)), (found.get("NSFW"), str)
    readable = all(value is None or isinstance(value, kinds) for value, kinds in safety)
    return found.get("TEXT") if readable and isinstance(found.get("TEXT"), str) else None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    objects=st.lists(st.dictionaries(st.sampled_from(["TEXT", "score", "NSFW", "punsafe", "x"]), values), min_size=1)
)
def test_any_objects_are_read_alike_however_cut(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(lines(*objects))
    whole = all_rows(path)
    assert whole["text"].to_list() == [readable_text(found) for found in objects]
    assert all_rows(path, rows_per_piece=1, batch_rows=2).equals(whole)
