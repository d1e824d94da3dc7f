"""A sweep's results by setting: matches records to settings, and selects the main scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.registry.gate_rules import STUDENT, subject_of
from sidlsg.runtime.errors import InputError
from sidlsg.stages.failures import SettingFailure, failure_in, parse_failure
from sidlsg.stages.sweep import Kappas, parse_setting, parse_settings, setting_of
from sidlsg.storage.records import ModelVersion, Score, Scorecard


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A sweep's results for one setting."""

    setting: str
    folder: Path
    """Folder of the scorecard."""
    card: Scorecard
    version: ModelVersion


def by_setting(
    settings: Sequence[str], folders: Sequence[Path], versions: Sequence[str]
) -> tuple[list[Swept], list[SettingFailure]]:
    """The results and failures of a sweep in the order of its settings, from records in any order.

    Args:
        settings: the sweep's settings.
        folders: folders of the scorecards, or of the failures recorded instead.
        versions: the ModelVersion records, or the failures, as JSON.

    Raises:
        InputError: a setting cannot be used, or a scorecard belongs to no setting or has no version.
    """
    known = parse_settings(settings)
    failed: dict[Kappas, SettingFailure] = {}
    registered, found = {}, {}
    for text in versions:
        if (failure := parse_failure(text)) is not None:
            failed[_kappas(failure)] = failure
        else:
            version = ModelVersion.from_json(text)
            registered[version.student_sha256] = version
    for folder in folders:
        if (failure := failure_in(folder)) is not None:
            failed.setdefault(_kappas(failure), failure)
            continue
        card = Scorecard.load(folder)
        setting = setting_of(card.kappas, known)
        if card.kappas in failed:
            continue
        if card.student_sha256 not in registered:
            raise InputError(
                f"the scorecard at {folder}, of setting {setting.text!r}, is of none of the versions given; "
                "give the versions of the same sweep"
            )
        found[card.kappas] = Swept(
            setting=setting.text, folder=folder, card=card, version=registered[card.student_sha256]
        )
    if missing := [setting.text for kappas, setting in known.items() if kappas not in found.keys() | failed.keys()]:
        raise InputError(f"there is neither a scorecard nor a failure of {', '.join(map(repr, missing))}; sweep again")
    return [found[each] for each in known if each in found], [failed[each] for each in known if each in failed]


def _kappas(failure: SettingFailure) -> Kappas:
    """The four κ of the failed setting, which can be written in several ways."""
    return parse_setting(failure.setting).guidance.scales


def main_scores(card: Scorecard) -> tuple[Score, ...]:
    """The student's main scores for a table: the first of each kind (`fid`, `kid`, ...)."""
    kinds: dict[str, Score] = {}
    for score in subject_of(card, STUDENT).scores:
        kinds.setdefault(score.name.partition("_")[0], score)
    return tuple(kinds.values())
