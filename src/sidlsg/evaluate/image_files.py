"""Reading a folder of images strictly, and extracting their features."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from sidlsg.evaluate.feature_files import FeatureSet, Source, load_features, save_features
from sidlsg.evaluate.networks import NetworkMeasure
from sidlsg.evaluate.suite import prompts_digest
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.progress import Meter
from sidlsg.runtime.provenance import printable
from sidlsg.storage.files import sha256_bytes, sha256_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
"""Names of PNG and JPEG files, in any case: the formats of the published protocols."""
FORMATS = ("PNG", "JPEG")
"""Accepted contents, whatever the name: other decoders, such as that of PostScript, start other programs."""
MOST_PIXELS = 4096 * 4096
"""Limit for one image: a small file can unpack to more than fits into memory."""
_SHOWN = 3
"""Names or pairs in a message."""
_GREY = {"L", "LA", "1", "I", "I;16", "F"}


def image_files(folder: Path, count: int | None = None) -> list[Path]:
    """The images of a folder, sorted by name; hidden files, folders and other formats are skipped.

    Args:
        folder: the folder.
        count: the required number; None for at least one.

    Raises:
        InputError: there is no such folder, or it has another number of images.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give a folder of {', '.join(SUFFIXES)} files")
    files = sorted(path for path in folder.iterdir() if _is_image(path))
    over = passed_over(folder)
    rest = f" ({over})" if over else ""
    if count is not None and len(files) != count:
        raise InputError(
            f"{folder} holds {len(files):,} images{rest}, and the protocol takes {count:,}; nothing is scored"
        )
    if not files:
        raise InputError(f"{folder} holds no image, {', '.join(SUFFIXES)}{rest}; nothing is scored")
    return files


def passed_over(folder: Path) -> str:
    """The files of a folder that `image_files` skips, by reason, with counts and the first names."""
    reasons: dict[str, list[str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            reasons.setdefault("hidden", []).append(name)
        elif "/" in name:
            reasons.setdefault("in folders of it", []).append(name)
        elif not _is_image(path):
            reasons.setdefault("of other formats", []).append(name)
    parts = [
        f"{len(names):,} {reason}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for reason, names in sorted(reasons.items())
    ]
    return printable(f"passed over {'; '.join(parts)}") if parts else ""


def in_caption_order(files: Sequence[Path], captions: Sequence[str]) -> list[Path]:
    """Sort images into the order of their captions: by name in natural order, so that 2 is before 10.

    Raises:
        InputError: the counts differ, a number is repeated, or only some names have a number.
    """
    numbers = [_number(path) for path in files]
    # Names with more than a number, such as hashes, are sorted by their characters.
    numbered = len({(number[0], number[2]) for number in numbers if number}) == 1
    ordered = sorted(files, key=_natural) if numbered else sorted(files)
    numbers = [_number(path) for path in ordered] if numbered else []
    wrong = ""
    if len(files) != len(captions):
        wrong = f"{len(files):,} images and {len(captions):,} captions are given"
    elif None in numbers and any(number is not None for number in numbers):
        wrong = f"{ordered[numbers.index(None)].name} has no number, and other images have"
    else:
        twice = ((a, b) for a, b in pairwise(ordered) if _number(a) is not None and _number(a) == _number(b))
        wrong = next((f"{one.name} and {other.name} have the same number" for one, other in twice), "")
    if wrong:
        raise InputError(
            f"{wrong}; give one image a caption, numbered in the order of the captions' lines (blank ones do not "
            f"count); these would pair: {first_pairs(ordered, captions)}"
        )
    return ordered


def first_pairs(files: Sequence[Path], captions: Sequence[str]) -> str:
    """The first images with their captions, for the user to check."""
    pairs = zip(files[:_SHOWN], captions[:_SHOWN], strict=False)
    return printable("; ".join(f'{file.name} with "{caption}"' for file, caption in pairs))


def read_rgb(path: Path, allow_grey: bool = False) -> Image.Image:
    """Read a PNG or JPEG in 8-bit RGB.

    Args:
        path: the file.
        allow_grey: convert 8-bit grey to RGB, as protocols do with the photographs of a reference.

    Raises:
        InputError: the file is missing, damaged, too large, or in another colour mode.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path} has {image.width:,} × {image.height:,} pixels; allowed: {MOST_PIXELS:,} in all"
                )
            image.load()
    except FileNotFoundError as error:
        raise InputError(f"no such image: {path}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a PNG or JPEG" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path} cannot be read ({reason}); replace it, and score again") from error
    if image.mode == "RGB":
        return image
    if image.mode in _GREY:
        if allow_grey and image.mode == "L":
            return image.convert("RGB")
        raise InputError(f"{path} is grey (mode {image.mode}), and must be RGB; replace it, and score again")
    raise InputError(f"{path} has the mode {image.mode}, not 8-bit RGB; convert it, and score again")


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in SUFFIXES and path.is_file()


def _natural(path: Path) -> tuple[list[str | int], str]:
    """A key for natural order: words and numbers in turn."""
    parts = re.split("([0-9]+)", path.name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], path.name


def _number(path: Path) -> tuple[str, int, str] | None:
    """The last number in a name, with the text before and after it."""
    match = re.fullmatch("(.*?)([0-9]+)([^0-9]*)", path.stem, re.DOTALL)
    return (match[1], int(match[2]), match[3]) if match else None


BLOCK = 500
"""Images whose features are stored in one file until all are computed."""
BATCH = 25


def extract_features(
    files: Sequence[Path],
    network: NetworkMeasure,
    space: str,
    output: Path,
    allow_grey: bool = False,
    prompts: Sequence[str] | None = None,
    passed_over: str = "",
) -> FeatureSet:
    """Write the features of images, in their order, to `output`.

    Features of blocks are stored next to the output until the end, so that a killed call resumes.

    Args:
        files: the images.
        network: the feature network.
        space: its `Protocol.space`.
        output: the file to write.
        allow_grey: see `read_rgb`.
        prompts: one per image, if the network reads them.
        passed_over: skipped files, for the record.

    Raises:
        InputError: an image cannot be read, or is in another colour mode.
    """
    texts = [""] * len(files) if prompts is None else list(prompts)
    if len(texts) != len(files):
        raise InputError(f"{len(files):,} images and {len(texts):,} prompts given; give one prompt an image")

    def source(images_sha256: str, some: Sequence[str]) -> Source:
        return Source(
            space=space,
            network_sha256=network.sha256,
            images_sha256=images_sha256,
            prompts_sha256="" if prompts is None else prompts_digest(some),
        )

    parts = output.with_name(f".{output.name}.parts")
    found, digests = [], []
    with Meter("features", len(files), "images") as meter:
        for number, start in enumerate(range(0, len(files), BLOCK)):
            block, read = files[start : start + BLOCK], texts[start : start + BLOCK]
            digests.append(_digest(block))
            path, of_block = parts / f"{number:06d}.safetensors", source(digests[-1], read)
            part = _kept(path, of_block)
            if part is None:
                features = []
                for at in range(0, len(block), BATCH):
                    images = [np.asarray(read_rgb(file, allow_grey)) for file in block[at : at + BATCH]]
                    features.append(network(images, read[at : at + BATCH]))
                part = FeatureSet(features=torch.cat(features), source=of_block)
                save_features(part, path)
            found.append(part.features)
            meter.update(start + len(block))
    whole = source(sha256_bytes("\n".join(digests).encode()), texts)
    features_ = FeatureSet(features=torch.cat(found), source=whole, passed_over=passed_over)
    save_features(features_, output)
    shutil.rmtree(parts, ignore_errors=True)
    return features_


def _digest(files: Sequence[Path]) -> str:
    lines = [f"{path.name} {sha256_file(path)}" for path in files]
    return sha256_bytes("\n".join(lines).encode())


def _kept(path: Path, source: Source) -> FeatureSet | None:
    """The stored features of a block if they are of the same images and network."""
    try:
        part = load_features(path)
    except InputError:  # not there, or cut off
        return None
    return part if part.source == source else None
