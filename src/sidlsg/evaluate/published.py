"""The published protocols as rows of a table: how many pictures, which network, after which resizing, which formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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

if TYPE_CHECKING:  # torch takes seconds, and the table is read before anything runs
    from sidlsg.evaluate.inception import Resize
import math
import statistics
from collections.abc import Mapping, Sequence

Formula = Literal["frechet", "kernel", "manifolds", "cosine", "preference"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that two numbers must share to be compared, but for the reference itself."""

    name: str
    about: str
    scores: tuple[str, ...]
    """The names of its scores."""
    formula: Formula
    prompts: str
    """What is drawn: a name in `sidlsg.evaluate.weights.FILES`, as are the next two."""
    network: str
    reference: str = ""
    """Empty where there is none: the score reads picture and prompt."""
    resize: Resize | None = None
    """How pictures come to Inception; None for other networks, which have one way each."""
    images: int | None = None
    """How many are generated; None where the name does not say, and the score does."""
    references: int | None = None
    """How many pictures the reference has; None likewise."""
    least: int = 4
    """Pictures that a set of any size must have; of four, an interval can be told."""
    ddof: int = 1
    """A Fréchet distance's covariances are divided by the count less this."""

    @property
    def space(self) -> str:
        """Names what is read off a picture: numbers of another space do not compare."""
        return f"{self.network}/{self.resize}" if self.resize else self.name

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it needs."""
        return tuple(name for name in (self.prompts, self.network, self.reference) if name)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="fid/coco2014-30k-clean",
            about="Fréchet distance to COCO's val2014, as the papers' tables have it: antialiased resizing",
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
            about="the same as SiD's training code measures it: the network's own resizing, covariances by the count",
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
            about="mean cosine of picture and 'A photo depicts' with its caption",
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
            about="the same by the newer network",
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
            about="precision and recall by manifolds of 3 nearest neighbours",
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
    """The protocol of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown{nearest(name, PROTOCOLS)}; allowed: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


STYLES = ("anime", "concept-art", "paintings", "photo")
PROMPTS_A_STYLE = 800
GROUPS = 10


@dataclass(frozen=True)
class StyleScore:
    """A row of the table."""

    mean: float
    """100 × cosine, over all images of the style."""
    deviation: float
    """Standard deviation (ddof = 0) of the means of ten groups of consecutive prompts."""


@dataclass(frozen=True)
class PreferenceTable:
    """HPSv2's result."""

    styles: dict[str, StyleScore]
    average: float
    """Over all images."""


def preference_table(scores: Mapping[str, Sequence[float]], images_a_style: int = PROMPTS_A_STYLE) -> PreferenceTable:
    """Means and group deviations.

    Args:
        scores: by style, one 100 × cosine a prompt in the prompts' order.
        images_a_style: how many there must be; a multiple of `GROUPS`.

    Raises:
        InputError: a style is missing or unknown, it has another number of scores, or one is not finite.
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
            raise InputError(f"the score of {style} image {bad[0]} is {values[bad[0]]}; look at that image")
        size = images_a_style // GROUPS
        groups = [statistics.fmean(values[i * size : (i + 1) * size]) for i in range(GROUPS)]
        rows[style] = StyleScore(mean=statistics.fmean(values), deviation=statistics.pstdev(groups))
        everything += values
    return PreferenceTable(styles=rows, average=statistics.fmean(everything))
