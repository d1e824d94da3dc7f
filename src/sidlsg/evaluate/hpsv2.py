"""HPSv2's table: human preference by style, from one score an image."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidlsg.runtime.errors import InputError

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
