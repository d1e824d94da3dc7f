"""The interface of protocols: which images to sample, what to measure on each, and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import Score, StyleMean
from sidlsg.teacher.images import Images

Format = Literal["png", "jpeg"]
ImageBatch = Images | Sequence[Images]
"""[N, H, W, 3] uint8, or N of [H, W, 3]."""


def prompts_digest(prompts: Sequence[str]) -> str:
    """SHA-256 of prompts in their order."""
    return sha256_bytes("\n".join(prompts).encode())


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images that are sampled once for all measures: image i for prompt i from seed i."""

    name: str
    """Letters, digits and `-`: a part of file names."""
    prompts: tuple[str, ...]
    format: Format = "png"
    """The encoding before measuring: PNG is lossless, JPEG's loss is part of some protocols."""

    @property
    def sha256(self) -> str:
        """Digest of the prompts and the format."""
        return prompts_digest([self.format, *self.prompts])


class Measure(Protocol):
    """Gives the same few numbers for each image."""

    @property
    def name(self) -> str:
        """Letters, digits, dots and `-`."""
        ...

    @property
    def width(self) -> int:
        """Numbers per image."""
        ...

    @property
    def identity(self) -> str:
        """Everything that the numbers depend on besides image and prompt: version, network's digest, resizing."""
        ...

    def __call__(self, images: Images, prompts: Sequence[str]) -> Tensor:
        """[N, H, W, 3] images and their N prompts to [N, width] float32 on the CPU."""
        ...


Values = Mapping[str, Mapping[str, Tensor]]
"""[N, width] by set and measure, row i of image i."""


@dataclass(frozen=True, kw_only=True)
class TextFit:
    """How well each image of a set fits its prompt, by one measure."""

    image_set: ImageSet
    values: Tensor
    """[N]; higher is better."""
    measure: str
    """Its description."""


class Suite(Protocol):
    """Protocols that share one pass over the same images."""

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """The sets to sample."""
        ...

    def measures(self, image_set: ImageSet) -> Sequence[Measure]:
        """The measures of a set's images."""
        ...

    def scores(self, values: Values) -> tuple[Score, ...]:
        """The scores, with intervals."""
        ...

    def styles(self, values: Values) -> tuple[StyleMean, ...]:
        """HPSv2's table; empty if it is not measured."""
        ...

    def text_fit(self, values: Values) -> TextFit | None:
        """None if no measure reads the prompts."""
        ...
