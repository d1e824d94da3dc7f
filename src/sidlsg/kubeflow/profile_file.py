"""A profile's file: read, with every mistake named, and given the images of a release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sidlsg.kubeflow.profile import IMAGES, Image, Images, Profile, Stage, seconds
from sidlsg.kubeflow.toml_forms import mistakes
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_toml, read_object, read_text, read_toml

TABLES = ("images", "run", "defaults", "stages")
_TABLE = re.compile(r"\s*\[")
_IMAGES = re.compile(r"\[\s*images\s*\]\s*(#.*)?")
_LINE = re.compile(rf'(\s*({"|".join(Images.model_fields)})\s*=\s*")[^"\\]*("(?!").*)', re.DOTALL)


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        InputError: the file cannot be read, or something in it is unknown, missing or cannot be used.
    """
    tables = read_toml(path, "give a profile, a TOML file")
    named = tables.get("stages", {})
    for what, found, allowed in (("table", tables, TABLES), ("stage", named, IMAGES)):
        prefix = "stages." if what == "stage" else ""
        for name, table in found.items() if isinstance(found, dict) else ():
            if name not in allowed:
                raise InputError(
                    f"{path}: {what} {name!r} is unknown{nearest(name, allowed)}; allowed: {', '.join(allowed)}"
                )
            if not isinstance(table, dict):
                raise InputError(f"{path}: {prefix}{name} is not a table; begin it with [{prefix}{name}]")
    for stage, table in named.items():
        if stage != "distil" and (given := sorted({"restarts", "restart_wait"} & table.keys())):
            raise InputError(f"{path}: stages.{stage} has {given[0]}, and only distil is restarted; leave it out")
    defaults = tables.get("defaults", {})
    whole: dict[str, Any] = {"images": {}, **{name: tables[name] for name in ("images", "run") if name in tables}}
    # The defaults alone first, so that a mistake in them is reported once, by its own name.
    found = mistakes(Stage, defaults, "defaults")
    whole["stages"] = {} if found else {stage: defaults | named.get(stage, {}) for stage in IMAGES}
    found += mistakes(Profile, whole)
    if found:
        raise InputError(f"{path}: " + "; ".join(found))
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
            f"{share.timeout}; give stages.distil-nodes.timeout more, including their longest wait in a queue"
        )


class Release(Images):
    """A release's `images.json`; no step of a pipeline runs in these three."""

    mlflow: Image = ""
    serve: Image = ""
    trigger: Image = ""


def read_images(path: Path) -> dict[str, str]:
    """The images of steps in a release's `images.json`.

    Raises:
        InputError: the file cannot be read, an image is missing or unknown, or one is not given by digest.
    """
    given = read_object(path, "give the images.json of a release")
    if found := mistakes(Release, given):
        raise InputError(f"{path}: {'; '.join(found)}; give the images.json of a release")
    return {name: given[name] for name in Images.model_fields}


def with_images(path: Path, images: Mapping[str, str]) -> str | None:
    """The text of a profile with other images in its table `[images]`; None if it has these already.

    Raises:
        InputError: the file cannot be read, or an image is not on a line of its own in that table.
    """
    advice = "give a profile, a TOML file"
    text = read_text(path, advice)
    lines, inside = [], False
    for line in text.splitlines(keepends=True):
        if _TABLE.match(line):
            inside = _IMAGES.fullmatch(line.strip()) is not None
        found = _LINE.fullmatch(line) if inside else None
        lines.append(f"{found[1]}{images[found[2]]}{found[3]}" if found else line)
    changed = "".join(lines)
    before, after = parse_toml(text, str(path), advice), parse_toml(changed, str(path), advice)
    if after != {**before, "images": dict(images)}:
        raise InputError(
            f"{path}: the images cannot be replaced; give each of {', '.join(images)} a line of its own below "
            '[images], such as train = "NAME@sha256:…"'
        )
    return None if changed == text else changed
