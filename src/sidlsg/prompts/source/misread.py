"""What keeps a row from being read as it was meant: its name in counts, and what a user can do about it."""

from __future__ import annotations

from collections.abc import Sequence

from sidlsg.runtime.pipeline_run import printable
from sidlsg.runtime.text_files import likely_encoding

NO_TEXT = "no text"
NOT_UTF8 = "a text that is not UTF-8"
NOT_A_STRING = "a text that is not a whole string"
NO_OBJECT = "no JSON object with unambiguous keys"
UNREAD_SAFETY = "a value for punsafe or nsfw that cannot be read"
NO_SCORE = "no score"
NOT_A_NUMBER = "a score that is not a number"
GIVEN = 200
"""Bytes of what the file has there that are kept for an example."""
_REMEDIES = {
    NO_TEXT: "if the texts are in another column, set columns.text to it",
    NOT_A_STRING: "write strings, or lists of strings",
    NO_OBJECT: "write one JSON object a line, its keys not alike but for case",
    UNREAD_SAFETY: "write numbers from 0 to 1 and tags as strings, or set unsafe.columns to false",
    NO_SCORE: "set columns.score to a column that has scores, or score.enabled to false to go without",
    NOT_A_NUMBER: "write numbers such as 6.25, or set columns.score to a column that has them",
}
_OTHERS = "windows-1251, shift_jis or gb18030"


def remedy(problem: str, examples: Sequence[bytes], encoding: str) -> str:
    """What to do about a problem.

    Args:
        problem: one of the names above.
        examples: what files have where it is.
        encoding: the rule `text.encoding`.
    """
    if problem != NOT_UTF8:
        return _REMEDIES[problem]
    if encoding:
        return f"they are not {encoding} (text.encoding) either; set another, or save the file as UTF-8"
    likely = likely_encoding(examples)
    if not likely:
        return f"set text.encoding to what they are in, such as {_OTHERS}, or save the file as UTF-8"
    reading = printable(examples[0].decode(likely))
    return f'in {likely} that is "{reading}"; if it is right, set text.encoding to {likely}, or save the file as UTF-8'


def shown(given: bytes) -> str:
    """What a file has, for a message, its control characters and bytes that are not UTF-8 as escapes."""
    return printable(given.decode("utf-8", "backslashreplace"))
