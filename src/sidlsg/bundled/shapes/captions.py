"""The 672 captions of the shapes domain, and which of them are held out."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from functools import cache

from sidlsg.bundled.figures import COLOURS, SHAPES, SIZES
from sidlsg.runtime.errors import InputError

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": SIZES,
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "background": tuple(COLOURS),
}
"""The attributes of a caption with their values, in the order of its words."""

HELD_OUT_COUNT = 96
FORM = "a {} {} {} on a {} background"
"""A caption's text, with `{}` for each attribute's value."""
_PATTERN = re.compile(FORM.replace("{}", r"(\w+)"))


@dataclass(frozen=True, order=True)
class Caption:
    """One caption of the domain; its colour and background always differ."""

    size: str
    colour: str
    shape: str
    background: str

    def __post_init__(self) -> None:
        for attribute, values in ATTRIBUTES.items():
            value = getattr(self, attribute)
            if value not in values:
                raise InputError(f"{attribute} {value!r} is not in the shapes domain; allowed: {', '.join(values)}")
        if self.colour == self.background:
            raise InputError(f"colour and background are both {self.colour!r}; they must differ")

    @property
    def text(self) -> str:
        """The caption as a prompt."""
        return FORM.format(self.size, self.colour, self.shape, self.background)

    @property
    def labels(self) -> tuple[int, int, int, int]:
        """The index of each attribute's value, in the order of `ATTRIBUTES`."""
        size, colour, shape, background = (
            values.index(getattr(self, attribute)) for attribute, values in ATTRIBUTES.items()
        )
        return size, colour, shape, background

    @classmethod
    def parse(cls, text: str) -> Caption:
        """Read a caption's text; raises InputError for any other text."""
        match = _PATTERN.fullmatch(" ".join(text.lower().split()))
        if match is None:
            raise InputError(f"{text!r} is not a caption like {Caption('small', 'red', 'circle', 'blue').text!r}")
        return cls(*match.groups())


@cache
def all_captions() -> tuple[Caption, ...]:
    """Every caption, sorted."""
    return tuple(sorted(Caption(*c) for c in itertools.product(*ATTRIBUTES.values()) if c[1] != c[3]))


@cache
def held_out_captions() -> tuple[Caption, ...]:
    """The evaluation captions, absent from training and the bundled prompts: the first by the SHA-256 of their text."""
    by_digest = sorted(all_captions(), key=lambda c: hashlib.sha256(c.text.encode()).hexdigest())
    return tuple(sorted(by_digest[:HELD_OUT_COUNT]))


@cache
def training_captions() -> tuple[Caption, ...]:
    """All captions that are not held out, sorted."""
    return tuple(sorted(set(all_captions()) - set(held_out_captions())))
