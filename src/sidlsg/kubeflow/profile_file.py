"""Reads a profile's file, and names every mistake in it."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from sidlsg.kubeflow.profile import IMAGES, Images, Profile, Stage, Whole, seconds
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml

TABLES = ("images", "run", "defaults", "stages")
_FIELDS = {"images": tuple(Images.model_fields), "run": tuple(Whole.model_fields), "": tuple(Stage.model_fields)}


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        InputError: the file cannot be read, or something in it is unknown, missing or cannot be used.
    """
    tables = read_toml(path, "give a profile, a TOML file")
    for name, table in tables.items():
        if name not in TABLES:
            raise InputError(f"{path}: table {name!r} is unknown{nearest(name, TABLES)}; allowed: {', '.join(TABLES)}")
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} is not a table; begin it with [{name}]")
    named = tables.get("stages", {})
    for stage, table in named.items():
        if stage not in IMAGES:
            raise InputError(
                f"{path}: stage {stage!r} is unknown{nearest(stage, IMAGES)}; allowed: {', '.join(IMAGES)}"
            )
        if not isinstance(table, dict):
            raise InputError(f"{path}: stages.{stage} is not a table; begin it with [stages.{stage}]")
        if stage != "distil" and (given := sorted({"restarts", "restart_wait"} & table.keys())):
            raise InputError(f"{path}: stages.{stage} has {given[0]}, and only distil is restarted; leave it out")
    defaults = tables.get("defaults", {})
    whole: dict[str, Any] = {"images": tables.get("images", {}), "stages": {}}
    if "run" in tables:
        whole["run"] = tables["run"]
    # The defaults alone first, so that a mistake in them is told once, by its own name.
    mistakes = _mistakes(Stage, defaults, "defaults")
    whole["stages"] = {stage: {**defaults, **named.get(stage, {})} for stage in IMAGES} if not mistakes else {}
    mistakes += _mistakes(Profile, whole, "")
    if mistakes:
        raise InputError(f"{path}: " + "; ".join(mistakes))
    profile = Profile.model_validate(whole)
    _check_training(path, profile)
    return profile


def _check_training(path: Path, profile: Profile) -> None:
    for stage, share in profile.stages.items():
        for what, count in (("nodes", share.nodes), ("GPUs", share.gpus)):
            if count > 1 and stage != "distil":
                raise InputError(f"{path}: {stage} has {count} {what}; only distil uses more than one")
    share, waits = profile.stages["distil"], profile.stages["distil-nodes"]
    if share.nodes == 1:
        return
    mounts = [volume.path for volume in share.volumes]
    shared = re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+/\S+", share.handover)
    if not shared and not any(PurePosixPath(share.handover).is_relative_to(mount) for mount in mounts):
        raise InputError(
            f"{path}: distil has {share.nodes} nodes, and its handover is {share.handover!r}, where they cannot get "
            'their inputs; give handover = "s3://BUCKET/PREFIX", or a folder on one of its volumes'
        )
    if seconds(waits.timeout) <= seconds(share.timeout):
        raise InputError(
            f"{path}: distil-nodes, which waits for distil's nodes, has {waits.timeout}, and they have "
            f"{share.timeout}; give stages.distil-nodes.timeout more, and what they may wait in a queue besides"
        )


def _mistakes(model: type[Profile] | type[Stage], table: dict[str, Any], where: str) -> list[str]:
    try:
        model.model_validate(table)
    except ValidationError as error:
        return [_told(dict(each), where) for each in error.errors()]
    return []


def _told(mistake: dict[str, Any], where: str) -> str:
    words = [str(word) for word in mistake["loc"] if word != "[key]"]
    place = ".".join([where, *words] if where else words)
    kind, given = mistake["type"], mistake.get("input")
    if kind == "extra_forbidden":
        allowed = _FIELDS.get(words[0] if words else "", _FIELDS[""])
        if len(words) > 3 or (len(words) > 1 and words[1] in ("tolerations", "volumes")):
            return f"{place} is unknown"
        return f"{place} is unknown{nearest(words[-1], allowed)}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        return f"{place} is missing; give it"
    told = mistake["msg"]
    reason = told.removeprefix("Value error, ")
    if reason == told:  # one of pydantic's own sentences
        reason = reason[0].lower() + reason[1:]
    # A table is not repeated: it may hold what somebody thought a safe place for a password.
    return f"{place}: {reason}" if isinstance(given, dict) else f"{place} is {given!r}; {reason}"
