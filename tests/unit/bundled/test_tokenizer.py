"""The teacher's tokenizer: one token a word of the domain, and something for any other text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from sidlsg.bundled.shapes.captions import ATTRIBUTES, all_captions
from sidlsg.bundled.tiny_sd import TEXT_LENGTH, new_tokenizer

WORDS = sorted({"a", "on", "background", *(value for values in ATTRIBUTES.values() for value in values)})
TOKENIZER = new_tokenizer()


def ids(text: str, **options: Any) -> list[int]:
    return list(TOKENIZER(text, **options).input_ids)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_the_domain_is_one_token(word: str) -> None:
    (start, token, end) = ids(word)
    assert (start, end) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
    assert ids(word.upper()) == [start, token, end]
    assert TOKENIZER.decode([token]).strip() == word


def test_different_words_are_different_tokens() -> None:
    assert len({ids(word)[1] for word in WORDS}) == len(WORDS) == 19


def test_captions_are_their_words_tokens() -> None:
    token = {word: ids(word)[1] for word in WORDS}
    for caption in all_captions():
        expected = [token[word] for word in caption.text.split()]
        assert ids(caption.text) == [TOKENIZER.bos_token_id, *expected, TOKENIZER.eos_token_id]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_tokens_of_the_vocabulary(text: str) -> None:
    whole = ids(text)
    assert whole[0] == TOKENIZER.bos_token_id
    assert whole[-1] == TOKENIZER.eos_token_id
    assert all(0 <= token < len(TOKENIZER) for token in whole)
    fitted = ids(text, truncation=True, padding="max_length", max_length=TOKENIZER.model_max_length)
    assert len(fitted) == TEXT_LENGTH == 16
    assert fitted[0] == TOKENIZER.bos_token_id
    assert TOKENIZER.eos_token_id in fitted
    # What fits is kept, in order.
    kept = min(len(whole) - 1, TEXT_LENGTH - 1)
    assert fitted[:kept] == whole[:kept]


def test_padding_is_the_end_marker_as_in_stable_diffusion() -> None:
    fitted = ids("red", truncation=True, padding="max_length", max_length=TEXT_LENGTH)
    assert set(fitted[2:]) == {TOKENIZER.eos_token_id} == {TOKENIZER.pad_token_id}


def test_every_number_of_the_vocabulary_is_taken_once() -> None:
    assert sorted(TOKENIZER.get_vocab().values()) == list(range(len(TOKENIZER)))
    # Every byte, and every byte at a word's end, so that no text is unknown.
    assert len(TOKENIZER) >= 512 + len(WORDS)


def test_it_is_made_the_same_each_time() -> None:
    assert new_tokenizer().get_vocab() == TOKENIZER.get_vocab()


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.model_max_length == TEXT_LENGTH
    for text in ("a small red circle on a blue background", "Größe: 3 × κ!", "", "日本語 🙂 a b\tc"):
        assert loaded(text).input_ids == ids(text)


def test_the_bundled_teacher_has_this_tokenizer(assets: Path) -> None:
    bundled = CLIPTokenizer.from_pretrained(assets / "tiny-sd" / "tokenizer")
    assert bundled.get_vocab() == TOKENIZER.get_vocab()
