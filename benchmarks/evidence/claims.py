"""What was claimed of the method, and whether the students show it: agrees, disagrees, or cannot be told."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t as student_t
from studies import IMAGES, Training

PAPER = "the method's paper"
Verdict = Literal["agrees", "disagrees", "cannot be told"]
Scores = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Scores by name, for each label and seed."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds and its interval of 95 %."""

    mean: float
    half: float
    """Half of the interval's width; infinite for a single seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """By Student's t."""
        count, mean = len(values), statistics.fmean(values)
        if count < 2:
            return cls(mean=mean, half=float("inf"))
        quantile = float(student_t.ppf(0.975, count - 1))
        return cls(mean=mean, half=quantile * statistics.stdev(values) / count**0.5)

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below 0, else 0."""
        return (self.mean > self.half) - (self.mean < -self.half)

    def __str__(self) -> str:
        mean = f"{self.mean:.3g}" if abs(self.mean) < 1000 else f"{self.mean:,.0f}"
        return f"{mean} ± {self.half:.2g}" if self.half != float("inf") else f"{mean} (one seed)"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A claim that a score rises or falls from one label of a study to another."""

    text: str
    score: str
    before: str
    after: str
    rises: bool
    source: str = PAPER
    """Whose claim it is; empty if it is a question of this project."""

    def judged(self, scores: Scores) -> tuple[Verdict, str]:
        """The verdict, and the difference over the seeds that both labels have."""
        before, after = scores[self.before], scores[self.after]
        seeds = sorted(before.keys() & after.keys())
        if not seeds:
            return "cannot be told", "no seed has both"
        difference = Interval.of([after[s][self.score] - before[s][self.score] for s in seeds])
        wanted = 1 if self.rises else -1
        verdicts: dict[int, Verdict] = {wanted: "agrees", -wanted: "disagrees", 0: "cannot be told"}
        return verdicts[difference.sign], f"`{self.score}` {difference}"


CLAIMS: dict[str, tuple[Change, ...]] = {
    "length": (
        Change(
            text="Four times the images bring a smaller distance",
            score="fid_judge", before=f"{IMAGES:,} images", after=f"{4 * IMAGES:,} images", rises=False,
        ),
    ),
    "long": (
        Change(
            text="Long guidance follows the text more closely at κ4 = 3 than none",
            score="all_attributes", before="none", after="κ4 = 3", rises=True,
        ),
        Change(
            text="Long guidance has a larger distance at κ4 = 3 than at 1.2",
            score="fid_judge", before="κ4 = 1.2", after="κ4 = 3", rises=True,
        ),
    ),
    "short": (
        Change(
            text="Short guidance has a smaller distance than none",
            score="fid_judge", before="none", after="κ2 = κ3 = 0.6", rises=False,
        ),
        Change(
            text="Short guidance follows the text more closely than none",
            score="all_attributes", before="none", after="κ2 = κ3 = 0.6", rises=True, source="",
        ),
    ),
    "lsg": (
        Change(
            text="A weak long-short guidance has a smaller distance than none",
            score="fid_judge", before="none", after="κ = 1.5", rises=False,
        ),
        Change(
            text="The distance is larger at κ = 3 than at 1.5",
            score="fid_judge", before="κ = 1.5", after="κ = 3", rises=True,
        ),
        Change(
            text="Alignment is higher at κ = 3 than at 1.2",
            score="all_attributes", before="κ = 1.2", after="κ = 3", rises=True,
        ),
        Change(
            text="Recall is lower at κ = 3 than at 1.2",
            score="recall_judge", before="κ = 1.2", after="κ = 3", rises=False,
        ),
    ),
    "prompts": (
        Change(
            text="A twentieth of the prompts brings a larger distance than all",
            score="fid_judge", before="score ≥ 6", after="score ≥ 7.48", rises=True, source="",
        ),
    ),
    "adapters": (
        Change(
            text="Adapters have a larger distance than all weights after as many images",
            score="fid_judge", before="all weights", after="adapters of rank 16", rises=True, source="",
        ),
    ),
    "steps": (
        Change(
            text="Four steps have a smaller distance than one",
            score="fid_judge", before="K = 1", after="K = 4", rises=False, source="arXiv 2505.12674",
        ),
    ),
    "real images": (
        Change(
            text="Real images bring a smaller distance than as many images without them",
            score="fid_judge", before="continued", after="continued with real images", rises=False,
            source="arXiv 2410.14919",
        ),
    ),
}  # fmt: skip
"""Claims by study; each compares the same seeds."""


def needed(studies: Mapping[str, Mapping[str, Training]], seeds: int) -> list[tuple[Training, int]]:
    """Trainings with their seeds: all seeds of what a claim compares, and the first of the others.

    A seed's long trainings come first, and one that another starts from before it.
    """
    claimed = {
        studies[name][label]
        for name in studies
        for claim in CLAIMS.get(name, ())
        for label in (claim.before, claim.after)
    }
    trainings = {training for study in studies.values() for training in study.values()}
    every = sorted(trainings, key=lambda training: (-training.images, training.from_student, training.name))
    return [(training, seed) for seed in range(seeds) for training in every if not seed or training in claimed]
