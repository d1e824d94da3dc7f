"""Pictures in a folder, read strictly: what is scored is what was meant, or nothing is scored."""

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
"""What the names of PNG and JPEG files end in; case is ignored. The published protocols take no other format."""
FORMATS = ("PNG", "JPEG")
"""What is read, whatever a file is called: other decoders, such as that of PostScript, start other programs."""
MOST_PIXELS = 4096 * 4096
"""A small file can claim more than memory holds, and several are read at once."""
_SHOWN = 3
"""Names or pairs that a message shows."""
_GREY = {"L", "LA", "1", "I", "I;16", "F"}


def image_files(folder: Path, count: int | None = None) -> list[Path]:
    """A folder's pictures, by name.

    Args:
        folder: files of other formats, hidden ones and folders in it are passed over, see `passed_over`.
        count: how many there must be; None for at least one.

    Raises:
        InputError: there is no such folder, or it holds another number of pictures.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give a folder of {', '.join(SUFFIXES)} files")
    files = sorted(path for path in folder.iterdir() if _is_picture(path))
    over = passed_over(folder)
    rest = f" ({over})" if over else ""
    if count is not None and len(files) != count:
        raise InputError(
            f"{folder} holds {len(files):,} pictures{rest}, and the protocol takes {count:,}; nothing is scored"
        )
    if not files:
        raise InputError(f"{folder} holds no picture, {', '.join(SUFFIXES)}{rest}; nothing is scored")
    return files


def passed_over(folder: Path) -> str:
    """What files of a folder are not scored, by reason with counts and the first names; empty for none."""
    reasons: dict[str, list[str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            reasons.setdefault("hidden", []).append(name)
        elif "/" in name:
            reasons.setdefault("in folders of it", []).append(name)
        elif not _is_picture(path):
            reasons.setdefault("of other formats", []).append(name)
    told = [
        f"{len(names):,} {reason}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for reason, names in sorted(reasons.items())
    ]
    return printable(f"passed over {'; '.join(told)}") if told else ""


def in_caption_order(files: Sequence[Path], captions: Sequence[str]) -> list[Path]:
    """Pictures in the order of their captions: by name, with the numbers in it as numbers, so that 2 is before 10.

    Args:
        files: the pictures.
        captions: one a picture, in their order.

    Raises:
        InputError: the counts differ, a number is there twice, or only some of the names have one.
    """
    numbers = [_number(path) for path in files]
    # Names that say more than a number, such as hashes, are in the order of their characters.
    numbered = len({(number[0], number[2]) for number in numbers if number}) == 1
    ordered = sorted(files, key=_natural) if numbered else sorted(files)
    numbers = [_number(path) for path in ordered] if numbered else []
    wrong = ""
    if len(files) != len(captions):
        wrong = f"{len(files):,} pictures and {len(captions):,} captions are given"
    elif None in numbers and any(number is not None for number in numbers):
        wrong = f"{ordered[numbers.index(None)].name} has no number, and other pictures have"
    else:
        twice = ((a, b) for a, b in pairwise(ordered) if _number(a) is not None and _number(a) == _number(b))
        wrong = next((f"{one.name} and {other.name} have the same number" for one, other in twice), "")
    if wrong:
        raise InputError(
            f"{wrong}; give one picture a caption, numbered in the order of the captions' lines (blank ones do not "
            f"count); these would pair: {first_pairs(ordered, captions)}"
        )
    return ordered


def first_pairs(files: Sequence[Path], captions: Sequence[str]) -> str:
    """The first pictures with their captions, for a person to check."""
    pairs = zip(files[:_SHOWN], captions[:_SHOWN], strict=False)
    return printable("; ".join(f'{file.name} with "{caption}"' for file, caption in pairs))


def read_rgb(path: Path, allow_grey: bool = False) -> Image.Image:
    """A picture in 8-bit RGB.

    Args:
        path: of a PNG or JPEG file.
        allow_grey: take a grey one as three equal channels, as protocols do with photographs of a reference.

    Raises:
        InputError: the file is missing, damaged, or of other colours.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path} has {image.width:,} × {image.height:,} pixels; allowed: {MOST_PIXELS:,} in all"
                )
            image.load()
    except FileNotFoundError as error:
        raise InputError(f"no such picture: {path}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "no PNG or JPEG" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path} cannot be read ({reason}); replace it, and score again") from error
    if image.mode == "RGB":
        return image
    if image.mode in _GREY:
        if allow_grey and image.mode == "L":
            return image.convert("RGB")
        raise InputError(f"{path} is grey (mode {image.mode}), and must be RGB; replace it, and score again")
    raise InputError(f"{path} has the mode {image.mode}, not 8-bit RGB; convert it as it is meant, and score again")


def _is_picture(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in SUFFIXES and path.is_file()


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Words and numbers in turn, so that numbers meet numbers."""
    parts = re.split("([0-9]+)", path.name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], path.name


def _number(path: Path) -> tuple[str, int, str] | None:
    """The last number in a name, with what is before and behind it."""
    match = re.fullmatch("(.*?)([0-9]+)([^0-9]*)", path.stem, re.DOTALL)
    return (match[1], int(match[2]), match[3]) if match else None


BLOCK = 500
"""Pictures whose features are kept in one file until all are there."""
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
    """Features of pictures in their order, written to `output`.

    What a block of pictures gave is kept beside the output until the end, with the digest of that block's pictures.

    Args:
        files: the pictures.
        network: reads them.
        space: names what it reads.
        output: the file to write.
        allow_grey: take grey pictures, as protocols do in a reference.
        prompts: one a picture, where they are read as well.
        passed_over: what of the pictures' folder is not among them, for the record.

    Raises:
        InputError: a picture cannot be read, or is of other colours.
    """
    texts = [""] * len(files) if prompts is None else list(prompts)
    if len(texts) != len(files):
        raise InputError(f"{len(files):,} pictures and {len(texts):,} prompts given; give one prompt a picture")

    def source(images_sha256: str, some: Sequence[str]) -> Source:
        return Source(
            space=space,
            network_sha256=network.sha256,
            images_sha256=images_sha256,
            prompts_sha256="" if prompts is None else prompts_digest(some),
        )

    parts = output.with_name(f".{output.name}.parts")
    found, digests = [], []
    with Meter("features", len(files), "pictures") as meter:
        for number, start in enumerate(range(0, len(files), BLOCK)):
            block, read = files[start : start + BLOCK], texts[start : start + BLOCK]
            digests.append(_digest(block))
            path, of_block = parts / f"{number:06d}.safetensors", source(digests[-1], read)
            part = _kept(path, of_block)
            if part is None:
                features = []
                for at in range(0, len(block), BATCH):
                    pictures = [np.asarray(read_rgb(file, allow_grey)) for file in block[at : at + BATCH]]
                    features.append(network(pictures, read[at : at + BATCH]))
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
    """What an earlier run made of these very pictures by this very network."""
    try:
        part = load_features(path)
    except InputError:  # not there, or cut off
        return None
    return part if part.source == source else None
