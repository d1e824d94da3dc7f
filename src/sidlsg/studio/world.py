"""A bundled domain's captions as choices on the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.domains import SCENES, SHAPES, domain_of_size
from sidlsg.bundled.figures import COLOURS, SIZES
from sidlsg.bundled.figures import SHAPES as FIGURES
from sidlsg.bundled.scenes.captions import EXAMPLE, OPPOSITE
from sidlsg.runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class World:
    """What a domain's captions are made of."""

    domain: Domain
    caption: str
    """A caption with `{}` for each choice."""
    choices: Mapping[str, Sequence[str]]
    """The values of each choice, in the order of a caption's words."""
    example: str
    """The caption that the page begins with."""

    @property
    def pattern(self) -> str:
        """A regular expression, of Python and of browsers, for a caption with a group for each choice."""
        return self.caption.format(*(f"({'|'.join(each)})" for each in self.choices.values()))

    def values(self, text: str) -> tuple[str, ...]:
        """The value of each choice in a caption, even of values that exclude each other; empty for any other text."""
        found = re.fullmatch(self.pattern, " ".join(text.lower().split()))
        return found.groups() if found else ()

    def objection(self, text: str) -> str:
        """Why a text of the captions' form is none: its values exclude each other; otherwise empty."""
        if self.values(text):
            try:
                self.domain.parse(text)
            except InputError as error:
                return str(error)
        return ""


_FIGURE = {"size": SIZES, "colour": tuple(COLOURS), "shape": FIGURES}
WORLDS = (
    World(
        domain=SHAPES,
        caption="a {} {} {} on a {} background",
        choices={**_FIGURE, "background": tuple(COLOURS)},
        example="a large red circle on a blue background",
    ),
    World(
        domain=SCENES,
        caption="a {} {} {} {} a {} {} {} on a {} background",
        choices={
            **{f"first {name}": values for name, values in _FIGURE.items()},
            "relation": tuple(OPPOSITE),
            **{f"second {name}": values for name, values in _FIGURE.items()},
            "background": tuple(COLOURS),
        },
        example=EXAMPLE.text,
    ),
)


def world_of(image_size: int) -> World | None:
    """The world of a student by its images' side in pixels, as `sidlsg evaluate` decides it; None for any other."""
    domain = domain_of_size(image_size)
    return next((world for world in WORLDS if world.domain is domain), None)
