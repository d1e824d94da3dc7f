"""Encoding: a source's images become latents in shards, block by block, with their captions as a prompt set."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import TypeAdapter, ValidationError

from sidlsg.prompts.held_out import held_out_digest
from sidlsg.prompts.shards import SCHEMA, shard_name, write_table
from sidlsg.prompts.text.tokens import token_counts
from sidlsg.real_images.examples import read_examples
from sidlsg.real_images.selection import RULE, STEPS, Selection, Used
from sidlsg.real_images.source import FOLDER, Source
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import best_device, set_threads
from sidlsg.runtime.progress import Meter
from sidlsg.storage.files import atomic_write, sha256_bytes
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import FunnelStep, PromptSet, file_ref
from sidlsg.teacher.config import family_in, latent_shape, read_configs
from sidlsg.teacher.folder import check_folder
from sidlsg.teacher.latents import encode_images, vae_digest, write_latents
from sidlsg.teacher.pipeline import load_component
from sidlsg.teacher.shards import BLOCK, shard_path

PROGRESS = "progress.json"
"""How far the unfinished work in a folder is; written after each block."""
RESIZING = "upright, on white, shorter side to the resolution by bicubic averaging, centre crop, [-1, 1]; sampled"
"""What is done with an image before and by the VAE; part of the work's key."""


@dataclass(kw_only=True)
class _Progress:
    """The finished blocks."""

    after: tuple[int, int] = (0, 0)
    """The position of the next example."""
    count: int = 0
    """Images in the blocks."""
    read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    content: str = ""
    """SHA-256 over the used images and captions, chained."""

    @classmethod
    def of(cls, folder: Path) -> _Progress:
        """As a killed call left it; the beginning where there is none, or a damaged one."""
        try:
            return TypeAdapter(cls).validate_json((folder / PROGRESS).read_bytes())
        except (OSError, ValidationError):
            return cls()


def resolution_of(teacher: Path) -> int:
    """Pixels on each side of a teacher's images."""
    return family_in(teacher).image_side(read_configs(teacher))


def encode_source(
    source: Source,
    teacher: Path,
    held_out: Sequence[str],
    licence: str,
    folder: Path,
    report: Callable[[str], None],
) -> RealImageSet:
    """Write a source's latents and captions into a folder, after the blocks that are there, and return the record.

    Args:
        source: the images with captions.
        teacher: folder of a family's pipeline.
        held_out: captions whose images are not used.
        licence: the terms of the images' use, for the record.
        folder: receives `shards/` and `captions/`; may have the finished blocks of an earlier call.
        report: receives lines for the user.

    Raises:
        InputError: the source or the teacher cannot be used, or no image is left.
        StorageError: the disk or the network failed.
    """
    set_threads()
    device, size = best_device(), resolution_of(teacher)
    check_folder(teacher)
    vae = load_component(teacher, "vae").requires_grad_(False).eval().to(device)
    captions = folder / RealImageSet.CAPTIONS
    (captions / "shards").mkdir(parents=True, exist_ok=True)
    done = _Progress.of(folder)
    if done.count:
        report(f"continues after {done.count:,} images, in file {_files(source, done) + 1:,} of {len(source.names):,}")
    selection = Selection(tuple(held_out), size, done.read, done.dropped)
    with Meter("real images", len(source.names), "files", done=_files(source, done)) as meter:
        for block in _blocks(selection(read_examples(source, done.after))):
            number = done.count // BLOCK
            pixels = np.stack([each.pixels for each in block])
            write_latents(shard_path(folder, number), encode_images(vae, pixels, done.count, device))
            _write_captions(captions / "shards" / shard_name(number), block, done.count)
            done = _Progress(
                after=block[-1].after,
                count=done.count + len(block),
                read=block[-1].read,
                dropped=block[-1].dropped,
                content=sha256_bytes("\n".join([done.content, *(each.digest for each in block)]).encode()),
            )
            # Last: what it counts is there.
            atomic_write(folder / PROGRESS, json.dumps(asdict(done)))
            meter.update(_files(source, done), f"{done.count:,} images")
    selection.report(report)
    if not done.count:
        reasons = [f"{count:,} {STEPS[step]}" for step, count in selection.dropped.items() if count]
        first = next(iter(selection.first.values()), "")
        raise InputError(
            f"{source.uri} has no image that can be used, of {selection.read:,}"
            + (f": {', '.join(reasons)} (the first: {first})" if reasons else "; give images with captions")
        )
    record = _record(source, teacher, held_out, licence, folder, done, selection, size)
    record.save(folder)
    (folder / PROGRESS).unlink()
    return record


def work_key(source: Source, teacher: Path, held_out: Sequence[str], licence: str, numerics: str) -> str:
    """Digest of everything that the set depends on: only an equal call resumes an unfinished one."""
    parts = [source.uri, source.state, vae_digest(teacher), str(resolution_of(teacher)), held_out_digest(held_out)]
    return hashlib.sha256("\n".join([*parts, licence, RESIZING, numerics]).encode()).hexdigest()


def _blocks(used: Iterator[Used]) -> Iterator[list[Used]]:
    while block := list(islice(used, BLOCK)):
        yield block


def _write_captions(path: Path, block: Sequence[Used], first: int) -> None:
    texts = pl.Series([each.caption for each in block], dtype=pl.String)
    table = pl.DataFrame(
        {
            "id": range(first, first + len(block)),
            "text": texts,
            "tokens": token_counts(texts),
            "score": [None] * len(block),
            "source": ["real images"] * len(block),
        }
    )
    unfinished = path.with_name(f".{path.name}")
    write_table(table, SCHEMA, unfinished)
    os.replace(unfinished, path)


def _record(
    source: Source,
    teacher: Path,
    held_out: Sequence[str],
    licence: str,
    folder: Path,
    done: _Progress,
    selection: Selection,
    size: int,
) -> RealImageSet:
    numbers = range(-(-done.count // BLOCK))
    funnel, rows = [FunnelStep(name="read", rows_in=selection.read, rows_out=selection.read)], selection.read
    for step, dropped in selection.dropped.items():
        funnel.append(FunnelStep(name=step, rows_in=rows, rows_out=rows - dropped))
        rows -= dropped
    captions = folder / RealImageSet.CAPTIONS
    prompts = PromptSet(
        source_sha256=done.content,
        rules_sha256=sha256_bytes(json.dumps(asdict(RULE), sort_keys=True).encode()),
        held_out_sha256=held_out_digest(held_out),
        count=done.count,
        shards=tuple(file_ref(captions / "shards" / shard_name(number), captions) for number in numbers),
        funnel=tuple(funnel),
    )
    prompts.save(captions)
    return RealImageSet(
        source=source.uri,
        source_sha256=done.content,
        licence=licence,
        vae_sha256=vae_digest(teacher),
        captions_sha256=prompts.digest,
        resolution=size,
        count=done.count,
        shape=latent_shape(teacher),
        shards=tuple(file_ref(shard_path(folder, number), folder) for number in numbers),
        funnel=tuple(funnel),
    )


def _files(source: Source, done: _Progress) -> int:
    """Files of the source that are done."""
    return done.after[1] if source.kind == FOLDER else done.after[0]
