"""A sweep's results by setting: matches records to settings, and selects the main scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.registry.gate_rules import STUDENT, subject_of
from sidlsg.runtime.errors import InputError
from sidlsg.stages.failures import SettingFailure, failure_in, parse_failure
from sidlsg.stages.sweep import SettingKey, SweepSetting, parse_setting, setting_of
from sidlsg.storage.records import ModelVersion, Score, Scorecard


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A sweep's results for one setting."""

    setting: SweepSetting
    folder: Path
    """Folder of the scorecard."""
    card: Scorecard
    version: ModelVersion


def by_setting(
    settings: Mapping[SettingKey, SweepSetting], folders: Sequence[Path], versions: Sequence[str]
) -> tuple[list[Swept], list[SettingFailure]]:
    """The results and failures of a sweep in the order of its settings, from records in any order.

    Args:
        settings: of the sweep, from `parse_settings`.
        folders: folders of the scorecards, or of the failures recorded instead.
        versions: the ModelVersion records, or the failures, as JSON.

    Raises:
        InputError: a scorecard belongs to no setting or has no version, or a setting has neither result nor failure.
    """
    failed: dict[str, SettingFailure] = {}
    registered, found = {}, {}
    for text in versions:
        if (failure := parse_failure(text)) is not None:
            failed[_text(failure)] = failure
        else:
            version = ModelVersion.from_json(text)
            registered[version.student_sha256] = version
    for folder in folders:
        if (failure := failure_in(folder)) is not None:
            failed.setdefault(_text(failure), failure)
            continue
        card = Scorecard.load(folder)
        setting = setting_of(card, settings)
        if setting.text in failed:
            continue
        if card.student_sha256 not in registered:
            raise InputError(
                f"the scorecard at {folder}, of setting {setting.text!r}, is of none of the versions given; "
                "give the versions of the same sweep"
            )
        found[setting.text] = Swept(setting=setting, folder=folder, card=card, version=registered[card.student_sha256])
    texts = [setting.text for setting in settings.values()]
    if missing := [text for text in texts if text not in found.keys() | failed.keys()]:
        raise InputError(f"there is neither a scorecard nor a failure of {', '.join(map(repr, missing))}; sweep again")
    return [found[text] for text in texts if text in found], [failed[text] for text in texts if text in failed]


def _text(failure: SettingFailure) -> str:
    """The failed setting, its scales in the strategy's order."""
    return parse_setting(failure.setting).text


def main_scores(card: Scorecard) -> tuple[Score, ...]:
    """The student's main scores for a table: the first of each kind (`fid`, `kid`, ...)."""
    kinds: dict[str, Score] = {}
    for score in subject_of(card, STUDENT).scores:
        kinds.setdefault(score.name.partition("_")[0], score)
    return tuple(kinds.values())
