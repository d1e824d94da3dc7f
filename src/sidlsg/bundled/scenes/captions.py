"""The 223,104 captions of the scenes domain, and which pairs of figures are held out."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sidlsg.bundled.figures import COLOURS, SHAPES, SIZES
from sidlsg.runtime.errors import InputError

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
"""The relation of the second figure to the first, by that of the first to the second."""
READING_ORDER = ("left of", "above")
"""Relations whose first figure is the left or the upper one."""
AXES = ("horizontal", "vertical")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "relation": AXES,
    "first_size": SIZES,
    "first_colour": tuple(COLOURS),
    "first_shape": SHAPES,
    "second_size": SIZES,
    "second_colour": tuple(COLOURS),
    "second_shape": SHAPES,
    "background": tuple(COLOURS),
}
"""What can be read from an image, with its values: the axis along which the figures lie, then the left or upper figure,
the other one, and the background."""

HELD_OUT_SHARE = 0.05
"""Share of the pairs of figures, by colour and shape, that are held out."""
HELD_OUT_COUNT = 2016
"""Evaluation captions."""
FORM = "a {} {} {} {} a {} {} {} on a {} background"
"""A caption's text, with `{}` for each of `CHOICES`."""
_FIGURE = {"size": SIZES, "colour": tuple(COLOURS), "shape": SHAPES}
CHOICES: dict[str, tuple[str, ...]] = {
    **{f"first {name}": values for name, values in _FIGURE.items()},
    "relation": tuple(OPPOSITE),
    **{f"second {name}": values for name, values in _FIGURE.items()},
    "background": tuple(COLOURS),
}
"""What a caption says, with its values, in the order of its words; first is what is named first."""
_WORD = r"(\w+)"
_PATTERN = re.compile(FORM.format(*[_WORD] * 3, f"({'|'.join(OPPOSITE)})", *[_WORD] * 4))


@dataclass(frozen=True, order=True)
class Figure:
    """A figure of a scene."""

    size: str
    colour: str
    shape: str

    @property
    def words(self) -> tuple[str, str, str]:
        """Size, colour and shape, as a caption names them."""
        return self.size, self.colour, self.shape

    @property
    def kind(self) -> str:
        """Colour and shape."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, order=True)
class Scene:
    """One caption of the domain; its figures differ from each other and, in colour, from the background."""

    first: Figure
    relation: str
    second: Figure
    background: str

    @property
    def text(self) -> str:
        """The caption as a prompt."""
        return FORM.format(*self.first.words, self.relation, *self.second.words, self.background)

    @property
    def reversed(self) -> Scene:
        """The other caption of the same scene."""
        return Scene(self.second, OPPOSITE[self.relation], self.first, self.background)

    @property
    def in_reading_order(self) -> Scene:
        """The caption of the same scene that names the left or upper figure first."""
        return self if self.relation in READING_ORDER else self.reversed

    @property
    def labels(self) -> tuple[int, ...]:
        """The index of each attribute's value, in the order of `ATTRIBUTES`."""
        scene = self.in_reading_order
        values = [AXES[READING_ORDER.index(scene.relation)]]
        for figure in (scene.first, scene.second):
            values += [figure.size, figure.colour, figure.shape]
        values.append(scene.background)
        return tuple(allowed.index(value) for allowed, value in zip(ATTRIBUTES.values(), values, strict=True))

    @property
    def is_held_out(self) -> bool:
        """Whether its pair of figures, by colour and shape, is absent from training."""
        pair = " and ".join(sorted([self.first.kind, self.second.kind]))
        return int.from_bytes(hashlib.sha256(pair.encode()).digest()[:8]) < HELD_OUT_SHARE * 2**64

    @classmethod
    def parse(cls, text: str) -> Scene:
        """Read a caption's text; raises InputError for any other text."""
        match = _PATTERN.fullmatch(" ".join(text.lower().split()))
        if match is None:
            raise InputError(f"{text!r} is not a caption like {EXAMPLE.text!r}")
        *first, relation, size, colour, shape, background = match.groups()
        figures = Figure(*first), Figure(size, colour, shape)
        for figure in figures:
            for value, allowed in ((figure.size, SIZES), (figure.colour, COLOURS), (figure.shape, SHAPES)):
                if value not in allowed:
                    raise InputError(
                        f"{value!r} in {text!r} is not in the scenes domain; allowed: {', '.join(allowed)}"
                    )
        if background not in COLOURS:
            raise InputError(f"background {background!r} is not in the scenes domain; allowed: {', '.join(COLOURS)}")
        if background in (figures[0].colour, figures[1].colour):
            raise InputError(f"a figure and the background of {text!r} are both {background}; they must differ")
        if figures[0] == figures[1]:
            raise InputError(f"the figures of {text!r} are the same; they must differ")
        return cls(figures[0], relation, figures[1], background)


EXAMPLE = Scene(Figure("small", "red", "circle"), "left of", Figure("large", "blue", "square"), "white")


@cache
def all_captions() -> tuple[Scene, ...]:
    """Every caption, sorted."""
    return tuple(sorted(_all()))


def _all() -> Iterator[Scene]:
    figures = [Figure(*values) for values in itertools.product(SIZES, COLOURS, SHAPES)]
    for background in COLOURS:
        visible = [figure for figure in figures if figure.colour != background]
        for first, second in itertools.permutations(visible, 2):
            yield from (Scene(first, relation, second, background) for relation in OPPOSITE)


@cache
def held_out_captions() -> tuple[Scene, ...]:
    """The evaluation captions, of pairs absent from training: the first by the SHA-256 of their text, sorted."""
    held_out = [scene for scene in all_captions() if scene.is_held_out]
    by_digest = sorted(held_out, key=lambda scene: hashlib.sha256(scene.text.encode()).hexdigest())
    return tuple(sorted(by_digest[:HELD_OUT_COUNT]))


@cache
def training_captions() -> tuple[Scene, ...]:
    """All captions of pairs that are not held out, sorted."""
    return tuple(scene for scene in all_captions() if not scene.is_held_out)


@cache
def teaching_captions() -> tuple[Scene, ...]:
    """The training captions, those in reading order four times.

    With all equally often, neither the relation's word nor the order of the figures' names tells anything of a figure's
    place without the other, and a teacher learns the places many times later.
    """
    training = training_captions()
    return training + 3 * tuple(scene for scene in training if scene.in_reading_order is scene)
