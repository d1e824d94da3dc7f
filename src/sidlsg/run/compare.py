"""A sweep's scorecards side by side: which setting each is of, and the few scores that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.records import ModelVersion, Score, Scorecard
from sidlsg.run.settings import parse_settings, setting_of

STUDENT = "student 1 step"


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep found for one setting."""

    setting: str
    folder: Path
    """Of the scorecard."""
    card: Scorecard
    version: ModelVersion


def by_setting(settings: Sequence[str], folders: Sequence[Path], versions: Sequence[str]) -> list[Swept]:
    """Put together what belongs to each setting, in the settings' order.

    Whoever collects results of parallel work promises no order, so each record says itself whose it is.

    Args:
        settings: the sweep's.
        folders: of the scorecards.
        versions: the ModelVersion records, as JSON.

    Raises:
        InputError: a setting cannot be used, a scorecard is of none, or no version is of its student.
    """
    known = parse_settings(settings)
    registered = {record.student_sha256: record for record in map(ModelVersion.from_json, versions)}
    found = {}
    for folder in folders:
        card = Scorecard.load(folder)
        setting = setting_of(card.kappas, known).text
        if card.student_sha256 not in registered:
            raise InputError(
                f"the scorecard at {folder}, of setting {setting!r}, is of no version that is given; "
                "give the versions of the same sweep"
            )
        found[setting] = Swept(setting=setting, folder=folder, card=card, version=registered[card.student_sha256])
    return [found[setting.text] for setting in known.values() if setting.text in found]


def main_scores(card: Scorecard) -> tuple[Score, ...]:
    """The student's scores that a table has room for: of each kind (`fid`, `kid`, ...) the first."""
    kinds: dict[str, Score] = {}
    for score in card.subject(STUDENT).scores:
        kinds.setdefault(score.name.partition("_")[0], score)
    return tuple(kinds.values())
