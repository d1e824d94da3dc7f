"""Writes a scoreboard of several scorecards: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidlsg.report.contenders import Entry
from sidlsg.report.page import render
from sidlsg.report.scoreboard import scoreboard, student_grids
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import Scorecard

TEMPLATE = "scoreboard_page.html"


def write_scoreboard(
    entries: Sequence[tuple[str, Path]], output: Path, title: str, failures: Sequence[str] = ()
) -> None:
    """Write a page that shows scorecards beside each other.

    Equal inputs give equal bytes.

    Args:
        entries: a label and the folder of a Scorecard each; the labels are unlike.
        output: the HTML file.
        title: the page's.
        failures: what belongs here and has no scorecard, a line each.

    Raises:
        InputError: there is no entry, two have one label, or a scorecard is missing or its files differ from it.
            Nothing is written then.
    """
    if not entries:
        raise InputError("no scorecard given; a scoreboard needs one or more, each with a label")
    labels = [label for label, _ in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"the label {label!r} is given {labels.count(label)} times; name each scorecard otherwise")
    loaded = [Entry(label=label, card=Scorecard.load(folder), folder=_folder(folder)) for label, folder in entries]
    for entry in loaded:
        entry.card.verify(entry.folder)
    shown = {"entries": loaded, "board": scoreboard(loaded), "grids": student_grids(loaded)}
    html = render(TEMPLATE, title=title, failures=failures, **shown)
    atomic_write(output, html)


def _folder(place: Path) -> Path:
    return place if place.is_dir() else place.parent
