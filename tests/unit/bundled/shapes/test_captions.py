"""The domain's captions: how many, which are held out, and back from their text."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.bundled.shapes.captions import (
    ATTRIBUTES,
    COLOURS,
    SHAPES,
    SIZES,
    Caption,
    all_captions,
    held_out_captions,
    training_captions,
)
from sidlsg.runtime.errors import InputError

captions = st.sampled_from(all_captions())


def test_there_are_672_captions_with_unlike_colours() -> None:
    # 2 sizes × 6 shapes × 8 colours × 7 other backgrounds.
    assert len(set(all_captions())) == len(all_captions()) == 2 * 6 * 8 * 7 == 672
    assert all(caption.colour != caption.background for caption in all_captions())
    assert list(all_captions()) == sorted(all_captions())


def test_held_out_and_training_captions_part_the_domain() -> None:
    assert len(held_out_captions()) == 96
    assert not set(held_out_captions()) & set(training_captions())
    assert set(held_out_captions()) | set(training_captions()) == set(all_captions())
    assert len(training_captions()) == 576


def test_the_held_out_captions_are_the_first_by_digest() -> None:
    texts = [
        f"a {size} {colour} {shape} on a {background} background"
        for size, colour, shape, background in itertools.product(SIZES, COLOURS, SHAPES, COLOURS)
        if colour != background
    ]
    texts.sort(key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    assert {caption.text for caption in held_out_captions()} == set(texts[:96])


def test_training_still_has_every_value_and_every_pair_of_colours() -> None:
    for attribute, values in ATTRIBUTES.items():
        assert {getattr(caption, attribute) for caption in training_captions()} == set(values)
    pairs = {(caption.colour, caption.background) for caption in training_captions()}
    assert pairs == set(itertools.permutations(COLOURS, 2))
    drawn = {(caption.size, caption.shape) for caption in training_captions()}
    assert drawn == set(itertools.product(SIZES, SHAPES))


@settings(deadline=None)
@given(captions, st.sampled_from([str, str.upper, str.title]), st.sampled_from([" ", "  ", "\t", "\n "]))
def test_a_caption_comes_back_from_its_text(caption: Caption, case: object, gap: str) -> None:
    text = case(caption.text)  # type: ignore[operator]
    assert Caption.parse(gap + gap.join(text.split()) + gap) == caption


@settings(deadline=None)
@given(captions)
def test_labels_point_at_the_captions_words(caption: Caption) -> None:
    values = [values[label] for values, label in zip(ATTRIBUTES.values(), caption.labels, strict=True)]
    assert values == [caption.size, caption.colour, caption.shape, caption.background]
    words = caption.text.split()
    assert [words[i] for i in (1, 2, 3, 6)] == values


@settings(deadline=None)
@given(st.text())
def test_other_text_is_refused_with_one_line(text: str) -> None:
    if " ".join(text.lower().split()) in {caption.text for caption in all_captions()}:
        return
    with pytest.raises(InputError) as caught:
        Caption.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a huge red circle on a blue background", "size 'huge' .* allowed: small, large"),
        ("a small pink circle on a blue background", "colour 'pink' .* allowed: red, green"),
        ("a small red star on a blue background", "shape 'star' .* allowed: circle, square"),
        ("a small red circle on a grey background", "background 'grey' .* allowed: red, green"),
        ("a small red circle on a red background", "both 'red'; they must differ"),
        ("a small red circle", "is not a caption like 'a small red circle on a blue background'"),
        ("a photo of a small red circle on a blue background", "is not a caption like"),
    ],
)
def test_the_message_names_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Caption.parse(text)
