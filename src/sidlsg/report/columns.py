"""What makes a score's numbers comparable: they share a column only where all of it is the same."""

from __future__ import annotations

from dataclasses import dataclass

from sidlsg.storage.records import Score


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score with everything that makes its numbers comparable."""

    name: str
    protocol: str
    n: int
    reference_digest: str
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number of a column."""

    value: float
    interval: tuple[float, float] | None = None
    decimals: int | None = None
    """Of a number that was published, as many as it was published with; None takes the column's."""


def column_of(score: Score) -> Column:
    """The only column that a score may stand in."""
    return Column(
        name=score.name,
        protocol=score.protocol,
        n=score.n,
        reference_digest=score.reference_digest,
        higher_is_better=score.higher_is_better,
    )


def reading_of(score: Score) -> Reading:
    """The number of a score."""
    return Reading(value=score.value, interval=score.interval)
