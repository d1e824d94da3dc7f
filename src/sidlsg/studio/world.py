"""A bundled world: what its captions are made of, so that the page can offer them as choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sidlsg.bundled.captions import ATTRIBUTES, Caption
from sidlsg.bundled.drawing import IMAGE_SIZE


@dataclass(frozen=True, kw_only=True)
class World:
    """The attributes of a world's captions."""

    attributes: Mapping[str, Sequence[str]]
    """Each with its values, in the order of a caption's words."""
    text: Callable[..., str]
    """The caption of a value for each attribute, by name; raises InputError for values that exclude each other."""
    values: Callable[[str], Mapping[str, str]]
    """The values of a caption by attribute; raises InputError for any other text."""
    example: Mapping[str, str]
    """The values that the page begins with."""


SHAPES = World(
    attributes=ATTRIBUTES,
    text=lambda **values: Caption(**values).text,
    values=lambda text: vars(Caption.parse(text)),
    example={"size": "large", "colour": "red", "shape": "circle", "background": "blue"},
)


def world_of(image_size: int) -> World | None:
    """The world of a student by its images' side in pixels, as `sidlsg evaluate` decides it; None for any other."""
    return SHAPES if image_size == IMAGE_SIZE else None
