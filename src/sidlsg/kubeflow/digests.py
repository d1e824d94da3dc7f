"""Puts a release's images into profiles: each by its digest, and nothing else in the file changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sidlsg.kubeflow.profile import Image, Images
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_toml, read_object, read_text

SERVICES = ("mlflow", "serve", "trigger")
"""Images of a release that no step of a pipeline runs in."""
_ADVICE = "give the images.json of a release"
_TABLE = re.compile(r"\s*\[")
_IMAGES = re.compile(r"\[\s*images\s*\]\s*(#.*)?")
_LINE = re.compile(rf'(\s*({"|".join(Images.model_fields)})\s*=\s*")[^"\\]*("(?!").*)', re.DOTALL)


def read_images(path: Path) -> dict[str, str]:
    """The images of steps in a release's `images.json`.

    Raises:
        InputError: the file cannot be read, an image is missing or unknown, or one is not given by digest.
    """
    given, known = read_object(path, _ADVICE), (*Images.model_fields, *SERVICES)
    for name, image in given.items():
        if name not in known:
            raise InputError(f"{path}: image {name!r} is unknown{nearest(name, known)}; allowed: {', '.join(known)}")
        try:
            TypeAdapter(Image).validate_python(image)
        except ValidationError as error:
            raise InputError(f"{path}: {name} is {image!r}; give NAME@sha256:<64 hex digits>") from error
    if missing := [name for name in Images.model_fields if name not in given]:
        raise InputError(f"{path} lacks {', '.join(missing)}; {_ADVICE}")
    return {name: given[name] for name in Images.model_fields}


def with_images(path: Path, images: Mapping[str, str]) -> str | None:
    """The text of a profile with other images in its table `[images]`; None where it has these already.

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
