"""The `compare` stage of a sweep: writes one page of all scorecards, and records the scores on the versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sidlsg.distil.recipes import published_results
from sidlsg.registry.address import given_address
from sidlsg.report.scoreboard import write_scoreboard
from sidlsg.runtime.overrides import changes_text
from sidlsg.stages.failures import SettingFailure, raise_failures, write_note
from sidlsg.stages.gate import evaluation_inputs, record_scores
from sidlsg.stages.sweep import parse_settings
from sidlsg.stages.sweep_results import by_setting, main_scores


def compare_step(
    *,
    scorecards: Sequence[Path],
    versions: Sequence[str],
    held_out_captions: Path,
    judge_model: Path,
    settings: Sequence[str],
    recipe: str,
    changes: Mapping[str, Any],
    tracking_uri: str,
    html: Path,
    metrics: Path,
) -> tuple[str, dict[str, float]]:
    """Write the page of a sweep; return the failed settings, as JSON, and the main scores of the others by name.

    Raises:
        StageError: all settings failed.
    """
    swept, failures = by_setting(parse_settings(settings, recipe, changes_text(changes)), scorecards, versions)
    for failure in failures:
        write_note(failure)
    if not swept:
        raise_failures(failures)
    entries = [(each.setting.text, each.folder) for each in swept]
    reasons = [failure.text for failure in failures]
    write_scoreboard(entries, html, f"Settings of recipe {recipe}", published_results(), reasons)
    address, inputs = given_address(tracking_uri), evaluation_inputs(held_out_captions, judge_model)
    for each in swept:
        record_scores(each.version, each.folder, address, inputs)
    scores = {
        f"{each.setting.folder} {score.metric}": score.value for each in swept for score in main_scores(each.card)
    }
    # The scores are the artifact's metadata; without a file as well, the artifact would look lost when it is copied.
    metrics.write_text(json.dumps(scores))
    return TypeAdapter(list[SettingFailure]).dump_json(failures).decode(), scores
