"""A folder of pictures to features, block by block, so that one that was killed goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sidlsg.evaluate.feature_files import FeatureSet, Source, load_features, save_features
from sidlsg.evaluate.image_files import read_rgb
from sidlsg.evaluate.networks import NetworkMeasure
from sidlsg.evaluate.suite import prompts_digest
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.progress import Meter
from sidlsg.storage.files import sha256_bytes, sha256_file

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
