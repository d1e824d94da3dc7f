import json

import instant_clip_tokenizer
import polars as pl
import pytest
from transformers import CLIPTokenizer

from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.tokens import token_counts

ENCODE = instant_clip_tokenizer.Tokenizer().encode


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A person riding a motorcycle", [320, 2533, 6765, 320, 10297]),
        ("it's a dog's life", [585, 568, 320, 1929, 568, 970]),
        ("café", [15304]),
        ("🐈", [2074, 486]),
        ("", []),
    ],
)
def test_known_texts_have_the_ids_and_counts_of_clip(text, ids):
    assert ENCODE(text) == ids
    assert token_counts(pl.Series([text])).tolist() == [len(ids)]


def test_long_texts_are_counted_to_their_end_and_null_is_none():
    counts = token_counts(pl.Series(["cat " * 99 + "cat", None, "", "1234567"]))
    assert counts.tolist() == [100, 0, 0, 7]
    assert counts.dtype == "int32"
    assert token_counts(pl.Series([], dtype=pl.String)).tolist() == []


def test_captions_have_as_many_tokens_as_whole_texts_do(captions):
    cleaned = clean_all(captions)
    for _ in range(2):  # remembered, too
        assert token_counts(cleaned).tolist() == [len(ENCODE(text)) for text in cleaned]


def test_ids_are_those_of_transformers(captions, tmp_path):
    """With a vocabulary of bytes, and of bytes that end a word: equal ids are equal splits into words."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = range(256, 256 + 256 - len(plain))
    letters = [chr(code) for code in [*plain, *others]]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    theirs = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    ours = instant_clip_tokenizer.Tokenizer.load(str(tmp_path / "merges.txt"), len(vocabulary))
    # A capital sigma at a word's end becomes another small one than transformers makes, as in OpenAI's own tokenizer.
    texts = clean_all(captions)[:3000].str.replace_all("ΣΟΦΟΣ", "σοφος").to_list()
    assert [ours.encode(text) for text in texts] == [ids[1:-1] for ids in theirs(texts)["input_ids"]]
