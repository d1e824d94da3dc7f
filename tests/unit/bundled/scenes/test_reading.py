"""Which attributes of an image are right: figures that changed places are one error."""

from __future__ import annotations

import torch

from sidlsg.bundled.scenes.captions import ATTRIBUTES, Scene
from sidlsg.bundled.scenes.reading import right

WANTED = "a small red circle left of a large blue square on a white background"


def wrong(shown: str, wanted: str = WANTED) -> list[str]:
    """The attributes that are wrong in an image of one caption that was sampled for another."""
    read, labels = (torch.tensor([Scene.parse(text).labels]) for text in (shown, wanted))
    return [name for name, is_right in zip(ATTRIBUTES, right(read, labels)[0].tolist(), strict=True) if not is_right]


def test_either_caption_of_the_same_scene_is_right() -> None:
    assert wrong(WANTED) == []
    assert wrong("a large blue square right of a small red circle on a white background") == []


def test_each_attribute_is_checked() -> None:
    assert wrong(WANTED.replace("circle", "ring")) == ["first_shape"]
    assert wrong(WANTED.replace("large", "small")) == ["second_size"]
    assert wrong(WANTED.replace("blue", "green").replace("white", "black")) == ["second_colour", "background"]


def test_another_axis_is_a_wrong_relation() -> None:
    assert wrong(WANTED.replace("left of", "above")) == ["relation"]


def test_figures_that_changed_places_are_a_wrong_relation_alone() -> None:
    assert wrong(WANTED.replace("left", "right")) == ["relation"]
    assert wrong(WANTED.replace("left of", "below")) == ["relation"]


def test_an_error_beside_a_wrong_order_is_named_at_the_figure_that_has_it() -> None:
    # The circle, wanted at the left, lies at the right and is a ring.
    assert wrong(WANTED.replace("left", "right").replace("circle", "ring")) == ["relation", "first_shape"]


def test_colours_that_changed_places_alone_are_two_wrong_colours() -> None:
    assert wrong("a small blue circle left of a large red square on a white background") == [
        "first_colour",
        "second_colour",
    ]


def test_each_image_is_read_by_itself() -> None:
    shown = [WANTED, WANTED.replace("left", "right"), WANTED.replace("red", "black")]
    read = torch.tensor([Scene.parse(text).labels for text in shown])
    wanted = torch.tensor([Scene.parse(WANTED).labels]).expand(3, -1)
    assert (~right(read, wanted)).sum(1).tolist() == [0, 1, 1]
