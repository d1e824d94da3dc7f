"""The `register` stage: registers a student as a version in MLflow; and `find`, which finds a version again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidlsg.registry.address import given_address
from sidlsg.registry.registration import Circumstances, register
from sidlsg.registry.versions import find_version
from sidlsg.runtime.costs import parse_prices
from sidlsg.runtime.overrides import changes_text
from sidlsg.runtime.progress import note
from sidlsg.stages import timed
from sidlsg.stages.failures import SettingFailure, failure_in, recording_failure, results_in
from sidlsg.storage.records import ModelVersion, Student


@timed
def register_step(
    *,
    student: Path,
    teacher_model: Path,
    tracking_uri: str,
    name: str,
    pipeline_run: str,
    hourly_price: float,
    prices: Mapping[str, Any],
    account: Path,
    setting: Mapping[str, Any],
) -> ModelVersion | SettingFailure:
    """Register a student, and copy its records, log and grids to the folder `account`."""
    price = parse_prices(changes_text(prices), hourly_price).of("distil")
    with recording_failure("register", setting, account):
        folder = results_in(student)
        circumstances = Circumstances(pipeline_run=pipeline_run, hourly_price=price, teacher=teacher_model.read_text())
        version = register(folder, given_address(tracking_uri), name, circumstances)
        copy_account(folder, account)
    return failure_in(account) or version


@timed
def find_step(tracking_uri: str, name: str, which: str) -> ModelVersion:
    """Find a version by its number or an alias."""
    version = find_version(given_address(tracking_uri), name, which)
    note(f"version {version.version} of {version.name}")
    return version


def copy_account(student: Path, target: Path) -> None:
    """Copy a student's records, training log, interim scores and sample grids, without its networks."""
    record = Student.load(student)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(student / Student.FILE, target / Student.FILE)
    prompts = record.prompt_set(student)
    if prompts is not None:
        prompts.save(target)
    for ref in record.account:
        if "://" in ref.path:
            continue
        (target / ref.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(student / ref.path, target / ref.path)
