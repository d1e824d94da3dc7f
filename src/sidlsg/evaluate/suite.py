"""What a set of protocols asks of an evaluation: what to draw, what to read off each picture, and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import Score, StyleMean
from sidlsg.teacher.images import Images

Format = Literal["png", "jpeg"]
Pictures = Images | Sequence[Images]
"""[N, H, W, 3] uint8, or N of [H, W, 3]."""


def prompts_digest(prompts: Sequence[str]) -> str:
    """SHA-256 of prompts in their order."""
    return sha256_bytes("\n".join(prompts).encode())


@dataclass(frozen=True, kw_only=True)
class DrawnSet:
    """Pictures that are drawn once, whatever is read off them: picture i for prompt i from seed i."""

    name: str
    """Of letters, digits and `-`: a part of file names."""
    prompts: tuple[str, ...]
    format: Format = "png"
    """What a picture goes through before anything reads it: PNG keeps it, JPEG's loss is part of some protocols."""

    @property
    def sha256(self) -> str:
        """Digest of the prompts and the format."""
        return prompts_digest([self.format, *self.prompts])


class Measure(Protocol):
    """Reads the same few numbers off each picture."""

    @property
    def name(self) -> str:
        """Of letters, digits, dots and `-`."""
        ...

    @property
    def width(self) -> int:
        """How many numbers a picture gives."""
        ...

    @property
    def identity(self) -> str:
        """Everything that they depend on besides image and prompt: version, network's digest, resizing."""
        ...

    def __call__(self, pictures: Images, prompts: Sequence[str]) -> Tensor:
        """[N, H, W, 3] pictures and their N prompts to [N, width] float32 on the CPU."""
        ...


Values = Mapping[str, Mapping[str, Tensor]]
"""[N, width] by set and measure, row i of picture i."""


@dataclass(frozen=True, kw_only=True)
class TextFit:
    """How well each picture of a set fits its prompt."""

    drawn: DrawnSet
    values: Tensor
    """[N]; higher is better."""
    measure: str
    """What they are, in words."""


class Suite(Protocol):
    """Protocols that are measured in one pass over the same pictures."""

    @property
    def sets(self) -> tuple[DrawnSet, ...]:
        """What is drawn."""
        ...

    def measures(self, drawn: DrawnSet) -> Sequence[Measure]:
        """What is read off the pictures of a set."""
        ...

    def scores(self, values: Values) -> tuple[Score, ...]:
        """The scores, with intervals."""
        ...

    def styles(self, values: Values) -> tuple[StyleMean, ...]:
        """HPSv2's table; empty where it is not measured."""
        ...

    def text_fit(self, values: Values) -> TextFit | None:
        """None where nothing reads the prompts."""
        ...
