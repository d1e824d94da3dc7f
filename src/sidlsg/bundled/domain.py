"""A bundled domain: its captions, an image of each, and what can be read from an image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.images import Images, pixels_of


class Caption(Protocol):
    """A caption of a domain."""

    @property
    def text(self) -> str:
        """The caption as a prompt."""
        ...

    @property
    def labels(self) -> tuple[int, ...]:
        """The index of each attribute's value, in the order of the domain's attributes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Captions with images that are functions of them, and attributes by which an image is checked."""

    name: str
    """The start of its protocols' names."""
    image_size: int
    """Pixels on each side."""
    attributes: Mapping[str, tuple[str, ...]]
    """Values by attribute."""
    form: str
    """A caption's text with `{}` for each word of `choices`."""
    choices: Mapping[str, Sequence[str]]
    """What those words may be, in their order."""
    example: Any
    """A caption."""
    parse: Callable[[str], Any]
    """The caption of a text; raises InputError for any other text."""
    draw: Callable[[Sequence[Any], int, Sequence[int]], Images]
    """One image per caption, a function of a seed and an index: [N, image_size, image_size, 3]."""
    all_captions: Callable[[], tuple[Any, ...]]
    training_captions: Callable[[], tuple[Any, ...]]
    teaching_captions: Callable[[], tuple[Any, ...]]
    """The training captions, each as many times as its share of a teacher's batches."""
    held_out_captions: Callable[[], tuple[Any, ...]]
    """Those for evaluation, absent from training and from the bundled prompts."""
    right: Callable[[Tensor, Tensor], Tensor] = torch.eq
    """Which attributes of images are as in their captions: two [N, attributes] of labels, read and wanted, to bool."""

    def has(self, text: str) -> bool:
        """Whether a prompt is a caption of the domain."""
        try:
            self.parse(text)
        except InputError:
            return False
        return True

    @property
    def pattern(self) -> str:
        """A regular expression for a text of the captions' form, with a group for each choice; browsers read it too."""
        return self.form.format(*(f"({'|'.join(each)})" for each in self.choices.values()))

    def values(self, text: str) -> tuple[str, ...]:
        """The value of each choice in a text of the captions' form, even if values exclude each other; else empty."""
        found = re.fullmatch(self.pattern, " ".join(text.lower().split()))
        return found.groups() if found else ()

    def objection(self, text: str) -> str:
        """Why a text of the captions' form is no caption: its values exclude each other; otherwise empty."""
        if self.values(text):
            try:
                self.parse(text)
            except InputError as error:
                return str(error)
        return ""

    def batch(
        self, captions: Sequence[Any], seed: int, stream: str, iteration: int, count: int
    ) -> tuple[list[Any], Tensor]:
        """Random captions, and [count, 3, image_size, image_size] pixels in [-1, 1] of their images."""
        choice = counted(seed, f"{stream}/captions", iteration).integers(len(captions), size=count)
        chosen = [captions[i] for i in choice]
        # Streams do not share images: the judge is not trained on those of the teacher.
        image_seed = int(counted(seed, f"{stream}/images").integers(2**63))
        indices = range(iteration * count, (iteration + 1) * count)
        pixels = pixels_of(self.draw(chosen, image_seed, indices))
        return chosen, pixels.contiguous(memory_format=torch.channels_last)
