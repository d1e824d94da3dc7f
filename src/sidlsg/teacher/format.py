"""The format of a pipeline's folder as an input: which files are taken, and the choice of a variant.

A variant's files, such as `unet/diffusion_pytorch_model.fp16.safetensors`, get their standard names in a folder of the
cache. So everything after reads an ordinary folder, and a variant has the digest of the same files without variant.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_object
from sidlsg.runtime.provenance import remark
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import Record
from sidlsg.storage.uri import FolderFormat
from sidlsg.teacher.config import SAVE_AGAIN
from sidlsg.teacher.folder import (
    OPTIONAL,
    VARIANT_RECORD,
    VIEWS,
    WITH_WEIGHTS,
    check_folder,
    check_links,
    folder_digest,
    is_wanted,
    is_weights,
    no_weights,
    variants,
    without_variant,
)


@dataclass(frozen=True, kw_only=True)
class TeacherVariant(Record):
    """Which variant of a teacher's weights a folder was made from."""

    FILE: ClassVar[str] = VARIANT_RECORD
    variant: str


def chosen(uri: str, names: Iterable[str], variant: str = "") -> dict[str, str]:
    """The names of the files to take from a model's folder, by their standard names.

    A network without the variant keeps its standard weights, as in diffusers, and a note names it.

    Args:
        uri: of the folder, for messages.
        names: of all its files.
        variant: of the weights; empty for the standard ones.

    Raises:
        InputError: no network has the variant, or one has neither the variant nor standard weights.
    """
    names = list(names)
    standard = {name: name for name in names if is_wanted(name)}
    if not variant:
        return standard
    own = {plain: name for name in names if (plain := without_variant(name, variant)) != name and is_weights(plain)}
    if not own:
        found = variants(names)
        there = f"it has: {', '.join(found)}" if found else "it has no variants: omit it"
        raise InputError(
            f"{uri} has no safetensors weights of the variant {variant!r}{nearest(variant, found)}; {there}"
        )
    with_it, weights = {_component(name) for name in own}, {name for name in standard if is_weights(name)}
    without = {_component(name) for name in weights} - with_it
    for name in WITH_WEIGHTS:
        if f"{name}/config.json" in names and name not in with_it | without:
            inside = [each.partition("/")[2] for each in names if _component(each) == name]
            raise no_weights(f"{uri}/{name}", inside, variant)
    if kept := [name for name in (*WITH_WEIGHTS, *OPTIONAL) if name in without]:
        _say_once(f"{uri} has no {variant} weights of {', '.join(kept)}; the standard ones are used")
    return {name: name for name in standard if name not in weights or _component(name) in without} | own


def _component(name: str) -> str:
    return name.partition("/")[0]


@functools.cache
def _say_once(text: str) -> None:
    remark(text)


def gather(uri: str, names: Iterable[str], variant: str, folder: Path, get: Callable[[str, Path], None]) -> None:
    """Fill a folder with a model's files under standard names; arguments and errors as of `chosen`.

    `get` writes the file of a name to a path.
    """
    for plain, name in chosen(uri, names, variant).items():
        (folder / plain).parent.mkdir(parents=True, exist_ok=True)
        get(name, folder / plain)
    if not variant:
        return
    for index in folder.glob("*/*.safetensors.index.json"):
        values = read_object(index, SAVE_AGAIN)
        shards = values.get("weight_map")
        if isinstance(shards, dict):  # `check_folder` names any other
            renamed = {
                key: without_variant(name, variant) if isinstance(name, str) else name for key, name in shards.items()
            }
            if renamed != shards:
                index.unlink()  # it may be a link
                index.write_text(json.dumps({**values, "weight_map": renamed}, indent=2, sort_keys=True) + "\n")
    TeacherVariant(variant=variant).save(folder)


def view(folder: Path, variant: str) -> Path:
    """A folder in the cache with links to a variant's files under standard names.

    Raises:
        InputError: the folder has no such variant, or is no teacher with it.
    """
    names = [path.relative_to(folder).as_posix() for path in (*folder.iterdir(), *folder.glob("*/*"))]
    used = set(chosen(str(folder), names, variant).values())
    check_links(folder, used.__contains__)
    views = cache_folder() / VIEWS
    views.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=views) as scratch:
        made = Path(scratch) / f"{folder.name}-{variant}"
        gather(str(folder), names, variant, made, lambda name, link: link.symlink_to(folder / name))
        inside = [path for path in sorted(made.rglob("*")) if not path.is_dir()]
        links = [
            [str(path.relative_to(made)), str(path.readlink()) if path.is_symlink() else path.read_text()]
            for path in inside
        ]
        # Named by all that is in it, so that it never changes while another process reads it.
        kept = views / sha256_bytes(json.dumps(links).encode())[:16] / made.name
        kept.parent.mkdir(exist_ok=True)
        try:
            made.rename(kept)
        except OSError:
            # It was made before.
            if not kept.exists():
                raise
    try:
        check_folder(kept)
    except InputError as error:
        # A user knows the folder, not its view.
        raise InputError(str(error).replace(str(kept), str(folder))) from error
    return kept


DIFFUSERS = FolderFormat(gather=gather, variant=view, check=check_folder, digest=folder_digest)
"""The format of a pipeline's folder as an input."""
