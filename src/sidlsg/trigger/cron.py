"""Cron expressions: checked, and written as Kubeflow Pipelines reads them."""

from __future__ import annotations

import re
import zoneinfo

from sidlsg.errors import InputError, nearest

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),
)
"""Each field's name, least and greatest number, and the words that stand for numbers from the least on."""
PART = re.compile(r"(?P<star>[*?])|(?P<low>\w+)(-(?P<high>\w+))?")
EXAMPLE = "'0 3 * * mon', at three every Monday"


def kubeflow_cron(cron: str, time_zone: str) -> str:
    """Write an expression with six fields and a time zone in front, as Kubeflow Pipelines' own reader takes them.

    Args:
        cron: five fields as in crontab, or six with seconds in front. Kubeflow Pipelines would take five for the first
            five of six.
        time_zone: IANA's name, such as Europe/Berlin.

    Raises:
        InputError: a field or the time zone cannot be used.
    """
    fields = cron.split()
    if len(fields) == len(FIELDS) - 1:
        fields = ["0", *fields]
    if len(fields) != len(FIELDS):
        raise InputError(f"cron {cron!r} has {len(fields)} fields; give five or six, such as {EXAMPLE}")
    for field, (name, least, greatest, words) in zip(fields, FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, least, greatest, words):
                raise InputError(
                    f"cron {cron!r} has {part!r} for the {name}; allowed: {least} to {greatest}"
                    f"{f' or {words[0]} to {words[-1]}' if words else ''}, *, A-B and any of these with /STEP"
                )
    if not time_zone or time_zone not in zoneinfo.available_timezones():
        near = nearest(time_zone, zoneinfo.available_timezones())
        raise InputError(f"time zone {time_zone!r} is unknown{near}; give one such as Europe/Berlin or UTC")
    return f"TZ={time_zone} {' '.join(fields)}"


def _fits(part: str, least: int, greatest: int, words: tuple[str, ...]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and 0 < int(step) <= greatest):
        return False
    match = PART.fullmatch(span)
    if match is None:
        return False
    if match["star"]:
        return True
    low = _number(match["low"], least, words)
    high = low if match["high"] is None else _number(match["high"], least, words)
    return least <= low <= high <= greatest


def _number(text: str, least: int, words: tuple[str, ...]) -> int:
    """The number that a text stands for; -1 for none."""
    if text.casefold() in words:
        return words.index(text.casefold()) + least
    return int(text) if text.isascii() and text.isdecimal() else -1
