"""The scorecard as a table: one row a subject, one column a score, unlike protocols never in one column."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sidlsg.records import Score, Scorecard, SubjectScores
from sidlsg.report.text import fixed


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score with everything that makes its numbers comparable."""

    name: str
    protocol: str
    n: int
    reference_digest: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number."""

    value: str
    interval: str
    best: bool
    """The best of the generated ones."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One subject."""

    subject: str
    note: str
    """What its name may not say; may be empty."""
    reused: bool
    real: bool
    cells: tuple[Cell | None, ...]
    """One a column; None where the subject has no such score."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All scores."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def has_real(self) -> bool:
        """Whether a row is of real images."""
        return any(row.real for row in self.rows)

    @property
    def has_reused(self) -> bool:
        """Whether a row came from the teacher's own scorecard."""
        return any(row.reused for row in self.rows)


def score_table(scorecard: Scorecard) -> ScoreTable:
    """Lay the scores out in the scorecard's order."""
    columns = tuple(dict.fromkeys(_column(score) for subject in scorecard.subjects for score in subject.scores))
    best = {column: _best(scorecard, column) for column in columns}
    decimals = {column: _decimals(_values(scorecard, column), _widths(scorecard, column)) for column in columns}
    rows = []
    for subject in scorecard.subjects:
        scores = {_column(score): score for score in subject.scores}
        real = _is_real(subject)
        cells = (
            _cell(scores[column], decimals[column], not real and scores[column].value == best[column])
            if column in scores
            else None
            for column in columns
        )
        rows.append(
            Row(
                subject=subject.subject,
                note=_note(subject),
                reused=subject.subject in scorecard.reused,
                real=real,
                cells=tuple(cells),
            )
        )
    return ScoreTable(columns=columns, rows=tuple(rows))


def _column(score: Score) -> Column:
    return Column(
        name=score.name,
        protocol=score.protocol,
        n=score.n,
        reference_digest=score.reference_digest,
        higher_is_better=score.higher_is_better,
    )


def _values(scorecard: Scorecard, column: Column, with_real: bool = True) -> list[float]:
    return [
        score.value
        for subject in scorecard.subjects
        if with_real or not _is_real(subject)
        for score in subject.scores
        if _column(score) == column and math.isfinite(score.value)
    ]


def _best(scorecard: Scorecard, column: Column) -> float | None:
    values = _values(scorecard, column, with_real=False)
    # The best of one would say nothing.
    return (max if column.higher_is_better else min)(values) if len(values) > 1 else None


def _widths(scorecard: Scorecard, column: Column) -> list[float]:
    """Half of each interval."""
    scores = (score for subject in scorecard.subjects for score in subject.scores if _column(score) == column)
    return [(score.interval[1] - score.interval[0]) / 2 for score in scores if score.interval is not None]


def _decimals(values: list[float], widths: list[float]) -> int:
    """The same for a whole column, so that its numbers line up.

    Two digits are shown of the narrowest interval, or of the smallest number where there are no intervals.
    """
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 2
    least = min([width for width in widths if width > 0] or sizes)
    return min(6, max(2 if max(sizes) > 1 else 3, 1 - math.floor(math.log10(least))))


def _cell(score: Score, decimals: int, best: bool) -> Cell:
    interval = "" if score.interval is None else " to ".join(fixed(end, decimals) for end in score.interval)
    return Cell(value=fixed(score.value, decimals), interval=interval, best=best)


def _is_real(subject: SubjectScores) -> bool:
    return subject.steps == 0


def _note(subject: SubjectScores) -> str:
    if _is_real(subject):
        return "the floor"
    # At 1 and below there is no guidance: the pipelines run the conditional pass alone.
    return f"guidance scale {subject.guidance_scale:g}" if subject.guidance_scale > 1 else ""
