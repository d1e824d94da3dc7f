"""The published protocols: number of images, network, resizing and formula of each, and HPSv2's table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sidlsg.evaluate.weights import (
    CAPTIONS,
    CLIP,
    HPS_2_0,
    HPS_2_1,
    HPS_PROMPTS,
    INCEPTION,
    REFERENCE_CLEAN,
    REFERENCE_INSIDE,
)
from sidlsg.runtime.errors import InputError, nearest

Formula = Literal["frechet", "kernel", "manifolds", "cosine", "preference"]
Resize = Literal["clean", "inside"]
"""`clean`: antialiased, before the network. `inside`: the network's own, bilinear as in TensorFlow 1."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that two comparable scores share, except for the reference itself."""

    name: str
    about: str
    scores: tuple[str, ...]
    """Names of its scores."""
    formula: Formula
    prompts: str
    """A name in `sidlsg.evaluate.weights.FILES`, like the next two."""
    network: str
    reference: str = ""
    """Empty if the score needs none: it reads image and prompt."""
    resize: Resize | None = None
    """Resizing for Inception; None for other networks."""
    images: int | None = None
    """Number of generated images; None if any number is allowed."""
    references: int | None = None
    """Number of reference images; None if any number is allowed."""
    least: int = 4
    """Fewest images of a set; an interval needs four."""
    ddof: int = 1
    """A Fréchet distance's covariances are divided by the count minus this."""

    @property
    def space(self) -> str:
        """Name of the features: those of another space do not compare."""
        return f"{self.network}/{self.resize}" if self.resize else self.name

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it needs."""
        return tuple(name for name in (self.prompts, self.network, self.reference) if name)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="fid/coco2014-30k-clean",
            about="Fréchet distance to COCO's val2014, as in the papers' tables: antialiased resizing",
            scores=("fid",),
            formula="frechet",
            prompts=CAPTIONS,
            network=INCEPTION,
            reference=REFERENCE_CLEAN,
            resize="clean",
            images=30_000,
            references=40_504,
        ),
        Protocol(
            name="fid/coco2014-30k-sid-train",
            about="the same as in SiD's training code: the network's own resizing, covariances by the count",
            scores=("fid_sid_train",),
            formula="frechet",
            prompts=CAPTIONS,
            network=INCEPTION,
            reference=REFERENCE_INSIDE,
            resize="inside",
            images=30_000,
            references=40_504,
            ddof=0,
        ),
        Protocol(
            name="clip/vit-g-14-photo-depicts",
            about="mean cosine of image and 'A photo depicts' with its caption",
            scores=("clip",),
            formula="cosine",
            prompts=CAPTIONS,
            network=CLIP,
            images=30_000,
        ),
        Protocol(
            name="hpsv2/v2.0",
            about="human preference of four styles of 800 prompts, 100 × cosine, with group deviations",
            scores=("hpsv2_v2_0",),
            formula="preference",
            prompts=HPS_PROMPTS,
            network=HPS_2_0,
            images=3_200,
        ),
        Protocol(
            name="hpsv2/v2.1",
            about="the same with the newer network",
            scores=("hpsv2_v2_1",),
            formula="preference",
            prompts=HPS_PROMPTS,
            network=HPS_2_1,
            images=3_200,
        ),
        Protocol(
            name="kid/inception-poly3",
            about="kernel distance, cubic: mean of 100 subsets of 1,000",
            least=1000,  # one subset: `sidlsg.evaluate.kid.SUBSET_SIZE`
            scores=("kid",),
            formula="kernel",
            prompts=CAPTIONS,
            network=INCEPTION,
            reference=REFERENCE_CLEAN,
            resize="clean",
        ),
        Protocol(
            name="pr/inception-k3",
            about="precision and recall by 3 nearest neighbours",
            scores=("precision", "recall"),
            formula="manifolds",
            prompts=CAPTIONS,
            network=INCEPTION,
            reference=REFERENCE_CLEAN,
            resize="clean",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of a name; raises InputError with the nearest name for an unknown one."""
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown{nearest(name, PROTOCOLS)}; allowed: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


STYLES = ("anime", "concept-art", "paintings", "photo")
PROMPTS_A_STYLE = 800
GROUPS = 10


@dataclass(frozen=True)
class StyleScore:
    """The score of one style."""

    mean: float
    """100 × cosine over all images."""
    deviation: float
    """Standard deviation (ddof = 0) of the means of ten groups of consecutive prompts."""


@dataclass(frozen=True)
class PreferenceTable:
    """HPSv2's result: scores by style, and the average over all images."""

    styles: dict[str, StyleScore]
    average: float


def preference_table(scores: Mapping[str, Sequence[float]], images_a_style: int = PROMPTS_A_STYLE) -> PreferenceTable:
    """Means and group deviations of 100 × cosine of each image, by style in the order of the prompts.

    Raises:
        InputError: a style is missing or unknown, has another number of scores, or one is not finite.
    """
    if images_a_style < GROUPS or images_a_style % GROUPS:
        raise InputError(f"{images_a_style} images a style do not make {GROUPS} groups; give a multiple of {GROUPS}")
    if set(scores) != set(STYLES):
        raise InputError(f"scores of the styles {', '.join(sorted(scores))} given; HPSv2 has {', '.join(STYLES)}")
    rows, everything = {}, []
    for style in STYLES:
        values = [float(value) for value in scores[style]]
        if len(values) != images_a_style:
            raise InputError(f"{len(values)} scores of {style} given; there must be {images_a_style}, one a prompt")
        bad = [i for i, value in enumerate(values) if not math.isfinite(value)]
        if bad:
            raise InputError(f"the score of {style} image {bad[0]} is {values[bad[0]]}; check that image")
        size = images_a_style // GROUPS
        groups = [statistics.fmean(values[i * size : (i + 1) * size]) for i in range(GROUPS)]
        rows[style] = StyleScore(mean=statistics.fmean(values), deviation=statistics.pstdev(groups))
        everything += values
    return PreferenceTable(styles=rows, average=statistics.fmean(everything))
