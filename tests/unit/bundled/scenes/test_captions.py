"""The captions of scenes: what they may say, that two of them share a scene, and what is held out."""

from __future__ import annotations

from collections import Counter

import pytest

from sidlsg.bundled.figures import COLOURS, SHAPES
from sidlsg.bundled.scenes.captions import (
    ATTRIBUTES,
    EXAMPLE,
    HELD_OUT_COUNT,
    OPPOSITE,
    READING_ORDER,
    Scene,
    all_captions,
    held_out_captions,
    teaching_captions,
    training_captions,
)
from sidlsg.runtime.errors import InputError

SOME = all_captions()[::1009]


def pair(scene: Scene) -> frozenset[str]:
    return frozenset([scene.first.kind, scene.second.kind])


def test_there_are_as_many_captions_as_scenes_can_be_named() -> None:
    visible = 2 * 6 * 7  # of a background: sizes, shapes, colours
    assert len(all_captions()) == len(set(all_captions())) == 8 * visible * (visible - 1) * len(OPPOSITE) == 223_104


def test_a_caption_is_read_back_however_it_is_spelled() -> None:
    for scene in SOME:
        assert Scene.parse(scene.text) == Scene.parse("  " + scene.text.upper().replace(" ", "  ")) == scene


def test_the_two_captions_of_a_scene_have_the_same_labels_and_no_others_do() -> None:
    for scene in SOME:
        assert scene.reversed != scene
        assert scene.reversed.reversed == scene
        assert scene.reversed.labels == scene.labels
    assert set(Counter(scene.labels for scene in all_captions()).values()) == {2}


def test_labels_name_the_left_or_upper_figure_first() -> None:
    def values(text: str) -> list[str]:
        return [allowed[i] for allowed, i in zip(ATTRIBUTES.values(), Scene.parse(text).labels, strict=True)]

    first, second = ["small", "red", "circle"], ["large", "blue", "square"]
    said = "a {} {} a {} on a white background"
    a, b = " ".join(first), " ".join(second)
    assert values(said.format(a, "left of", b)) == ["horizontal", *first, *second, "white"]
    assert values(said.format(a, "right of", b)) == ["horizontal", *second, *first, "white"]
    assert values(said.format(a, "above", b)) == ["vertical", *first, *second, "white"]
    assert values(said.format(a, "below", b)) == ["vertical", *second, *first, "white"]


def test_no_pair_of_figures_is_both_trained_and_held_out() -> None:
    training = {pair(scene) for scene in training_captions()}
    held_out = {pair(scene) for scene in all_captions() if scene.is_held_out}
    assert not training & held_out
    assert {pair(scene) for scene in held_out_captions()} == held_out
    assert len(held_out) == 49
    assert len(training | held_out) == 48 * 49 // 2
    # Each kind of figure is trained with others, so that only its combination is new.
    assert {kind for both in training for kind in both} == {f"{c} {s}" for c in COLOURS for s in SHAPES}


def test_a_teacher_sees_reading_order_four_times_as_often() -> None:
    times = Counter(teaching_captions())
    assert times.keys() == set(training_captions())
    assert all(times[scene] == (4 if scene.relation in READING_ORDER else 1) for scene in times)


def test_the_evaluation_captions_are_balanced() -> None:
    assert len(held_out_captions()) == HELD_OUT_COUNT
    for attribute, values in zip(ATTRIBUTES, zip(*(s.labels for s in held_out_captions()), strict=True), strict=True):
        assert set(values) == set(range(len(ATTRIBUTES[attribute])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"red": "pink"}, "'pink' in .* allowed: red, green"),
        ({"small": "tiny"}, "'tiny' in .* allowed: small, large"),
        ({"square": "star"}, "'star' in .* allowed: circle, square"),
        ({"left of": "near"}, "is not a caption like 'a small red circle left of"),
        ({"white": "pink"}, "background 'pink' is not in the scenes domain"),
        ({"white": "red"}, "both red; they must differ"),
        ({"large blue square": "small red circle"}, "the figures of .* are the same"),
        ({"white background": "white wall"}, "is not a caption like"),
    ],
)
def test_other_texts_are_refused_with_one_line(change: dict[str, str], said: str) -> None:
    text = EXAMPLE.text
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(InputError, match=said) as caught:
        Scene.parse(text)
    assert "\n" not in str(caught.value)
