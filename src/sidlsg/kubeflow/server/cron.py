"""Cron expressions: checked, and written as Kubeflow Pipelines reads them."""

from __future__ import annotations

import re
import zoneinfo

from sidlsg.runtime.errors import InputError, nearest

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


def kubeflow_cron(cron: str) -> str:
    """Write an expression with six fields, as Kubeflow Pipelines' own reader takes them.

    Args:
        cron: five fields as in crontab, or six with seconds in front. Kubeflow Pipelines would take five for the first
            five of six.

    Raises:
        InputError: a field cannot be used.
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
    return " ".join(fields)


def check_time_zone(time_zone: str, server: str) -> None:
    """Check that an expression in one time zone means the same to a server in another.

    Args:
        time_zone: that the expression is written in; IANA's name, such as Europe/Berlin.
        server: that the server reads every expression in.

    Raises:
        InputError: one is unknown, or they differ.
    """
    known = zoneinfo.available_timezones()
    for zone in (time_zone, server):
        if zone not in known:
            raise InputError(
                f"time zone {zone!r} is unknown{nearest(zone, known)}; give one such as Europe/Berlin or UTC"
            )
    if time_zone != server:
        raise InputError(
            f"time zone {time_zone} is not the server's, {server}: Kubeflow Pipelines reads all expressions in one; "
            f"write this one in {server}, or give the server's scheduled workflow controller "
            f'CRON_SCHEDULE_TIMEZONE={time_zone} and the file server_time_zone = "{time_zone}"'
        )


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
