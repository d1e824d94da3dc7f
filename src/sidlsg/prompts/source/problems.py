"""Problems of rows that cannot be read as intended: their names, what to do about them, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.runtime.parsing import likely_encoding
from sidlsg.runtime.provenance import printable

NO_TEXT = "no text"
NOT_UTF8 = "a text that is not UTF-8"
NOT_A_STRING = "a text that is not a whole string"
NO_OBJECT = "no JSON object with unambiguous keys"
UNREAD_SAFETY = "a value for punsafe or nsfw that cannot be read"
NO_SCORE = "no score"
NOT_A_NUMBER = "a score that is not a number"
GIVEN = 200
"""Bytes of a row's content that are kept for an example."""
_REMEDIES = {
    NO_TEXT: "if the texts are in another column, set columns.text to it",
    NOT_A_STRING: "write strings, or lists of strings",
    NO_OBJECT: "write one JSON object a line, with keys that differ in more than case",
    UNREAD_SAFETY: "write numbers from 0 to 1 and tags as strings, or set unsafe.columns to false",
    NO_SCORE: "set columns.score to a column with scores, or score.enabled to false to do without",
    NOT_A_NUMBER: "write numbers such as 6.25, or set columns.score to a column with numbers",
}
MANY = 0.02
"""Share of a file's rows above which a problem is a warning: a few bad rows are normal, more may be a mistake."""


@dataclass(frozen=True, kw_only=True)
class Misread:
    """Rows of one file with the same problem."""

    file: str
    problem: str
    rows: int
    of_rows: int
    """All rows of the file that were read."""
    examples: tuple[tuple[int, bytes | None], ...]
    """The first rows, each with its content in the file."""


def warnings(found: Sequence[Misread], encoding: str) -> list[str]:
    """One line for each problem that many rows of some file have, with an example and what to do.

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
                f"{_encoding_remedy(given, encoding) if problem == NOT_UTF8 else _REMEDIES[problem]}"
            )
        )
    return lines


def _encoding_remedy(examples: Sequence[bytes], encoding: str) -> str:
    if encoding:
        return f"they are not {encoding} (text.encoding) either; set another, or save the file as UTF-8"
    likely = likely_encoding(examples)
    if not likely:
        return "set text.encoding to theirs, such as windows-1251 or gb18030, or save the file as UTF-8"
    reading = printable(examples[0].decode(likely))
    return f'in {likely} that is "{reading}"; if it is right, set text.encoding to {likely}, or save the file as UTF-8'


def shown(given: bytes) -> str:
    """A file's bytes for a message, with control characters and invalid UTF-8 escaped."""
    return printable(given.decode("utf-8", "backslashreplace"))
