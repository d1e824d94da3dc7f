"""The command `sidlsg doctor`: what this installation and its servers can do."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidlsg.cli import configuration
from sidlsg.cli.options import Json, TrackingUri
from sidlsg.runtime.errors import InputError, SidlsgError

if TYPE_CHECKING:  # pydantic takes a while
    from sidlsg.kubeflow.profile import Profile

PLACEHOLDER = "@sha256:" + "0" * 32
"""How the digests in profiles begin until images are built."""
NOT_ASKED = "not asked"
LITTLE_DISK = 5e9
"""Bytes that the demo and its environment need about."""


def doctor(
    tracking_uri: TrackingUri = "",
    place: Annotated[
        str, typer.Option("--s3", metavar="URI", help="An s3:// prefix to list, such as the checkpoints'.")
    ] = "",
    profile: Annotated[
        list[Path], typer.Option(help="Profile to check for placeholder digests; repeat for more.")
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    as_json: Json = False,
) -> None:
    """Check this installation: packages, CPUs, GPU, disk, and the servers that are given.

    Exit code 1: something that was asked for does not work.

    Examples:
      sidlsg doctor
      sidlsg doctor --tracking-uri http://localhost:5000 --s3 s3://runs/state
    """
    checks: dict[str, Callable[[], str]] = {
        "sidlsg": _package,
        "configuration": lambda: str(configuration.current.path or "no file"),
        "extras": _extras,
        "torch": _torch,
        "training": _training,
        "disk": _disk,
        "MLflow": lambda: _mlflow(tracking_uri),
        "S3": lambda: _s3(place),
        **{f"profile {path}": functools.partial(_profile, path) for path in profile},
    }
    rows = []
    for name, check in checks.items():
        try:
            found = check()
            row = {"name": name, "works": None if found.startswith(NOT_ASKED) else True, "found": found}
        except SidlsgError as error:
            row = {"name": name, "works": False, "found": str(error)}
        rows.append(row)
        if not as_json:
            print(f"{name:<14} {'FAILED: ' if row['works'] is False else ''}{row['found']}")
    failed = [str(row["name"]) for row in rows if row["works"] is False]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"\nThis does not work: {', '.join(failed)}" if failed else "\nAll that was checked works.")
    if failed:
        raise typer.Exit(1)


def _package() -> str:
    return f"{version('sidlsg')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def _extras() -> str:
    """The extras whose packages are all here, and those that lack some."""
    complete, partial = [], []
    for extra in metadata("sidlsg").get_all("Provides-Extra") or []:
        if extra == "dev":
            continue
        missing = list(_missing(extra))
        if not missing:
            complete.append(extra)
        else:
            partial.append(f"{extra} (lacks {', '.join(missing)})")
    return "; ".join(
        words for words in (", ".join(complete), f"not installed: {', '.join(partial)}" if partial else "") if words
    )


def _missing(extra: str) -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requires("sidlsg") or []:
        requirement = Requirement(text)
        if requirement.marker is None or "extra" not in text or not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            version(requirement.name)
        except PackageNotFoundError:
            yield requirement.name


def _torch() -> str:
    import torch

    from sidlsg.runtime.hardware import best_device, device_name

    build = f" for CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return f"{torch.__version__}{build}, uses {device_name(best_device())}"


def _training() -> str:
    from sidlsg.distil.recipes import RECIPES
    from sidlsg.kubeflow.local.execution import machine_line
    from sidlsg.runtime.hardware import host_memory

    memory = host_memory()
    return machine_line(RECIPES["tiny"]).removeprefix("machine: ") + (
        f"; {memory / 1e9:.0f} GB of memory free" if memory else ""
    )


def _disk() -> str:
    from sidlsg.storage.cache import cache_folder

    found = []
    for path in (Path(), cache_folder()):
        there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        free = shutil.disk_usage(there).free
        found.append(f"{free / 1e9:.0f} GB free in {path.absolute()}{' (little)' if free < LITTLE_DISK else ''}")
    return "; ".join(found)


def _mlflow(tracking_uri: str) -> str:
    if not tracking_uri:
        return f"{NOT_ASKED}; give --tracking-uri"
    from sidlsg.registry.connection import connect, explained

    @explained
    def look(tracking_uri: str) -> str:
        models = connect(tracking_uri).search_registered_models()
        return f"{tracking_uri}: {', '.join(model.name for model in models) or 'no model yet'}"

    return look(tracking_uri=tracking_uri)


def _s3(place: str) -> str:
    if not place:
        return f"{NOT_ASKED}; give --s3{_endpoint()}"
    from sidlsg.storage.uri import s3_contents

    _, objects = s3_contents(place)
    return f"{place}: {len(objects):,} objects{_endpoint()}"


def _endpoint() -> str:
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f", at {address}" if address else ""


def _profile(path: Path) -> str:
    from sidlsg.kubeflow.profile_file import read_profile

    if empty := placeholders(read_profile(path)):
        raise InputError(
            f"{', '.join(empty)}: the image's digest is a placeholder, which no cluster can pull; put in a release's "
            f"with `sidlsg profile-images {path} --images images.json`"
        )
    return "images by digest"


def placeholders(profile: Profile) -> list[str]:
    """The images of a profile that have no real digest yet."""
    return [name for name, image in profile.images if PLACEHOLDER in image]
