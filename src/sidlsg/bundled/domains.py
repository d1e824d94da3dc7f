"""The bundled domains by name."""

from __future__ import annotations

from collections.abc import Sequence

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.scenes import captions as scenes
from sidlsg.bundled.scenes import drawing as scene_drawing
from sidlsg.bundled.scenes.reading import right
from sidlsg.bundled.shapes import captions as shapes
from sidlsg.bundled.shapes import drawing as shape_drawing
from sidlsg.runtime.errors import InputError, nearest

SHAPES = Domain(
    name="shapes",
    image_size=shape_drawing.IMAGE_SIZE,
    attributes=shapes.ATTRIBUTES,
    form=shapes.FORM,
    choices=shapes.ATTRIBUTES,
    example=shapes.Caption("large", "red", "circle", "blue"),
    parse=shapes.Caption.parse,
    draw=shape_drawing.draw,
    all_captions=shapes.all_captions,
    training_captions=shapes.training_captions,
    teaching_captions=shapes.training_captions,
    held_out_captions=shapes.held_out_captions,
)
SCENES = Domain(
    name="scenes",
    image_size=scene_drawing.IMAGE_SIZE,
    attributes=scenes.ATTRIBUTES,
    form=scenes.FORM,
    choices=scenes.CHOICES,
    example=scenes.EXAMPLE,
    parse=scenes.Scene.parse,
    draw=scene_drawing.draw,
    all_captions=scenes.all_captions,
    training_captions=scenes.training_captions,
    teaching_captions=scenes.teaching_captions,
    held_out_captions=scenes.held_out_captions,
    right=right,
)
DOMAINS = {domain.name: domain for domain in (SHAPES, SCENES)}


def domain_named(name: str) -> Domain:
    """The domain of that name; raises InputError if there is none."""
    if name not in DOMAINS:
        raise InputError(f"domain {name!r} is unknown{nearest(name, DOMAINS)}; allowed: {', '.join(DOMAINS)}")
    return DOMAINS[name]


def domain_of_size(image_size: int) -> Domain | None:
    """The domain with images of that many pixels a side; None if there is none."""
    return next((domain for domain in DOMAINS.values() if domain.image_size == image_size), None)


def domain_of(texts: Sequence[str], image_size: int) -> Domain | None:
    """The domain with images of that size and with all these captions; None if there is none."""
    domain = domain_of_size(image_size)
    return domain if domain and all(map(domain.has, texts)) else None
