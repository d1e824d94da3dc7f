"""Reads a profile's file, and names every mistake in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sidlsg.errors import InputError, nearest
from sidlsg.profile.profile import Images, Profile, Stage, Whole
from sidlsg.profile.stages import IMAGES

TABLES = ("images", "run", "defaults", "stages")
_FIELDS = {"images": tuple(Images.model_fields), "run": tuple(Whole.model_fields), "": tuple(Stage.model_fields)}


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        InputError: the file cannot be read, or something in it is unknown, missing or cannot be used.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a profile, a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
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
    for stage, share in profile.stages.items():
        _check_training(path, stage, share)
    return profile


def _check_training(path: Path, stage: str, share: Stage) -> None:
    if stage != "distil":
        for what, count in (("nodes", share.nodes), ("GPUs", share.gpus)):
            if count > 1:
                raise InputError(f"{path}: {stage} has {count} {what}; only distil uses more than one")
    elif share.nodes > 1:
        if not share.handover:
            raise InputError(
                f"{path}: distil has {share.nodes} nodes and no handover, through which they get their inputs; give "
                'handover = "s3://BUCKET/PREFIX"'
            )
        for secret, keys in share.secrets.items():
            if renamed := [variable for variable, key in keys.items() if variable != key]:
                raise InputError(
                    f"{path}: {renamed[0]} comes from another key of {secret}; on several nodes a variable and its key "
                    "have one name"
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
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"{place} is {given!r}; {reason[0].lower()}{reason[1:]}"
