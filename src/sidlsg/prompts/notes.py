"""Notes of a curation: files that were passed over or left out, and rows that could not be read as they were meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.prompts.source.csv_files import remedy, shown
from sidlsg.runtime.provenance import printable

MANY = 0.02
"""The share of a file's rows from which on a problem is a warning: single bad rows are usual, more may be a mistake."""


@dataclass(frozen=True, kw_only=True)
class Misread:
    """Rows of one file that could not be read as they were meant, for one reason."""

    file: str
    """As in `InputFile.name`."""
    problem: str
    """See `sidlsg.prompts.source.csv_files`."""
    rows: int
    of_rows: int
    """All rows of the file that were read."""
    examples: tuple[tuple[int, bytes | None], ...]
    """The first ones, each with what the file has there."""


def warnings(found: Sequence[Misread], encoding: str) -> list[str]:
    """A line for each problem that many rows of some file have, with an example and what to do.

    Args:
        found: by file and problem.
        encoding: the rule `text.encoding`.
    """
    lines = []
    for problem in dict.fromkeys(each.problem for each in found):
        files = [each for each in found if each.problem == problem and each.rows >= MANY * each.of_rows]
        if not files:
            continue
        rows, of_rows = sum(each.rows for each in files), sum(each.of_rows for each in files)
        others = len(files) - 1
        more = f" and {others:,} more file{'s' if others > 1 else ''}" if others else ""
        row, text = files[0].examples[0]
        example = f"row {row}" if text is None else f'row {row}: "{shown(text)}"'
        given = [text for each in files for _, text in each.examples if text is not None]
        lines.append(
            printable(
                f"warning: {rows:,} of {of_rows:,} rows of {files[0].file}{more} have {problem} ({example}); "
                f"{remedy(problem, given, encoding)}"
            )
        )
    return lines
