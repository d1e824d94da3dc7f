import hashlib

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.keys import content_words_keys, digests, same_text_key, same_text_keys, same_words_keys
from unit.prompts.text.references import clean, content_words_key, same_words_key

BATCHES = [
    (same_text_keys, same_text_key),
    (same_words_keys, same_words_key),
    (content_words_keys, content_words_key),
]
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])
SEEN = "dog dogs Dog's glass ss s és édes bus is THE of and a within ' throughout İ ß ς Σ ſ Ж 漢 🐈 - . _ ² ½ é a\u0301"
PIECES = st.sampled_from([*SEEN.split(), " ", "  "])
TEXTS = st.lists(st.one_of(st.text(ASSIGNED), st.lists(PIECES, max_size=8).map("".join)).map(clean), max_size=8)


@pytest.mark.parametrize(("batch", "one"), BATCHES)
def test_captions_have_the_keys_that_each_text_has(batch, one, captions):
    cleaned = clean_all(captions)
    assert batch(cleaned).to_list() == [one(text) for text in cleaned]


@pytest.mark.parametrize(("batch", "one"), BATCHES)
@given(texts=TEXTS)
@example(texts=["", "?!", "the", "is the", "🐈", "ΑΣ"])
@example(texts=["éés", "éés a", "dogsés"])
def test_a_batch_has_the_keys_that_each_text_has(batch, one, texts):
    assert batch(pl.Series(texts, dtype=pl.String)).to_list() == [one(text) for text in texts]


@pytest.mark.parametrize(("batch", "one"), BATCHES)
def test_nulls_stay_and_line_breaks_part_no_rows(batch, one):
    texts = pl.Series("caption", ["The dogs\nof war", None, "A dog", "the"])
    keys = batch(texts)
    assert keys.to_list() == [None if text is None else one(text) for text in texts]
    assert keys.name == "caption"


def test_every_character_alone_has_the_key_of_the_reference():
    texts = sorted({clean(chr(i)) for i in range(0x20, 0x30000) if not 0xD800 <= i < 0xE000 and chr(i).isprintable()})
    assert same_text_keys(pl.Series(texts)).to_list() == [same_text_key(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("A photo of two dogs on the beach.", "photo two dog beach"),
        ("two dog's photo, beach", "two dog photo beach"),
        ("A glass of beer is on a bus", "glass beer bus"),
        ("Three buses", "three buse"),
        ("gas, yes", "gas yes"),
        ("To be or not to be", "not"),
        ("The Tower and the WITH", "tower"),
        ("of the", "of the"),
        ("🐈!", "🐈!"),
        ("", ""),
        ("Crème brûlées – 2 cafés", "crème brûlée 2 café"),
    ],
)
def test_content_words(text, key):
    assert content_words_keys(pl.Series([text])).item() == content_words_key(text) == key


@pytest.mark.parametrize("seed", [0, 1, 10])
def test_digests_are_the_first_half_of_sha_256(seed):
    texts = ["", "a dog", "日本"]
    found = digests(pl.Series(texts), seed)
    assert found.dtype == "uint64"
    for row, text in zip(found, texts, strict=True):
        salted = f"{seed}\0{text}" if seed else text
        assert b"".join(int(half).to_bytes(8, "big") for half in row) == hashlib.sha256(salted.encode()).digest()[:16]


def test_no_keys_have_no_digests():
    assert digests(pl.Series([], dtype=pl.String), 0).shape == (0, 2)


def words_key(text):
    return same_words_keys(pl.Series([clean(text)])).item()


@pytest.mark.parametrize(
    "other", ["A RED  dog!", "a-red-dog", "“a red, dog”", "a&nbsp;red dog", "a $red| dog…", "areddog"]
)
def test_same_words_key_ignores_case_punctuation_and_whitespace(other):
    assert words_key(other) == words_key("a red dog")


@pytest.mark.parametrize("other", ["a red dogs", "a réd dog", "a red dog 2", "🐕"])
def test_same_words_key_tells_words_apart(other):
    assert words_key(other) != words_key("a red dog")


def test_texts_without_words_are_equal_to_themselves_only():
    assert words_key("🐈") == words_key(" 🐈 ") != words_key("🐕")
