"""A sweep's scorecards side by side: which setting each is of, and the few scores that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.runtime.errors import InputError
from sidlsg.stages.handed_on import Failed
from sidlsg.stages.sweep import Kappas, parse_setting, parse_settings, setting_of
from sidlsg.storage.records import ModelVersion, Score, Scorecard

STUDENT = "student 1 step"


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep found for one setting."""

    setting: str
    folder: Path
    """Of the scorecard."""
    card: Scorecard
    version: ModelVersion


def by_setting(
    settings: Sequence[str], folders: Sequence[Path], versions: Sequence[str]
) -> tuple[list[Swept], list[Failed]]:
    """Put together what belongs to each setting, in the settings' order, and what failed.

    Whoever collects results of parallel work promises no order, so each record says itself whose it is.

    Args:
        settings: the sweep's.
        folders: of the scorecards, or of the failures that were handed on.
        versions: the ModelVersion records, or the failures, as JSON.

    Raises:
        InputError: a setting cannot be used, a scorecard is of none, or no version is of its student.
    """
    known = parse_settings(settings)
    failed = {_kappas(each): each for each in map(Failed.from_json, versions) if each is not None}
    registered = {
        record.student_sha256: record
        for record in (ModelVersion.from_json(each) for each in versions if Failed.from_json(each) is None)
    }
    found = {}
    for folder in folders:
        if (failure := Failed.load(folder)) is not None:
            failed.setdefault(_kappas(failure), failure)
            continue
        card = Scorecard.load(folder)
        setting = setting_of(card.kappas, known).text
        if card.kappas in failed:
            continue
        if card.student_sha256 not in registered:
            raise InputError(
                f"the scorecard at {folder}, of setting {setting!r}, is of no version that is given; "
                "give the versions of the same sweep"
            )
        found[setting] = Swept(setting=setting, folder=folder, card=card, version=registered[card.student_sha256])
    missing = [each.text for kappas, each in known.items() if each.text not in found and kappas not in failed]
    if missing:
        raise InputError(f"there is neither a scorecard nor a failure of {', '.join(map(repr, missing))}; sweep again")
    swept = [found[each.text] for each in known.values() if each.text in found]
    return swept, [failed[kappas] for kappas in known if kappas in failed]


def _kappas(failed: Failed) -> Kappas:
    """A setting has many texts, and these once."""
    return parse_setting(failed.setting).guidance.scales


def main_scores(card: Scorecard) -> tuple[Score, ...]:
    """The student's scores that a table has room for: of each kind (`fid`, `kid`, ...) the first."""
    kinds: dict[str, Score] = {}
    for score in card.subject(STUDENT).scores:
        kinds.setdefault(score.name.partition("_")[0], score)
    return tuple(kinds.values())
