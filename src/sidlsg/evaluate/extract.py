"""A folder of pictures to features, block by block, so that one that was killed goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sidlsg.errors import InputError
from sidlsg.evaluate.feature_files import FeatureSet, Source, load_features, save_features
from sidlsg.evaluate.image_files import read_rgb
from sidlsg.progress import Meter
from sidlsg.storage import sha256_bytes, sha256_file

BLOCK = 500
"""Pictures whose features are kept in one file until all are there."""
BATCH = 25


def extract_features(
    files: Sequence[Path],
    network: Callable[[list[Image.Image]], Tensor],
    space: str,
    network_sha256: str,
    output: Path,
    allow_grey: bool = False,
) -> FeatureSet:
    """Features of pictures in their order, written to `output`.

    What a block of pictures gave is kept beside the output until the end, with the digest of that block's pictures.

    Args:
        files: the pictures.
        network: pictures to [N, dim] features.
        space: names the features.
        network_sha256: of the network's file.
        output: the file to write.
        allow_grey: take grey pictures, as protocols do in a reference.

    Raises:
        InputError: a picture cannot be read, or is of other colours.
    """
    parts = output.with_name(f".{output.name}.parts")
    found, digests = [], []
    with Meter("features", len(files), "pictures") as meter:
        for number, start in enumerate(range(0, len(files), BLOCK)):
            block = files[start : start + BLOCK]
            digests.append(_digest(block))
            source = Source(space=space, network_sha256=network_sha256, images_sha256=digests[-1])
            part = _kept(parts / f"{number:06d}.safetensors", source)
            if part is None:
                pictures = (block[at : at + BATCH] for at in range(0, len(block), BATCH))
                features = [network([read_rgb(path, allow_grey) for path in some]) for some in pictures]
                part = FeatureSet(features=torch.cat(features), source=source)
                save_features(part, parts / f"{number:06d}.safetensors")
            found.append(part.features)
            meter.update(start + len(block))
    whole = sha256_bytes("\n".join(digests).encode())
    features_ = FeatureSet(
        features=torch.cat(found), source=Source(space=space, network_sha256=network_sha256, images_sha256=whole)
    )
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
