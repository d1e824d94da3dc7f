"""One pass over the pictures of a set: each is drawn once, everything is read off it, and it need not be kept.

The set is cut into blocks, the same ones whatever the number of processes: what a block gave is kept until the
evaluation ends, so that one that was killed goes on where it was, and ends with the same numbers.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sidlsg.evaluate import NUMERICS
from sidlsg.evaluate.metrics import FeatureMemory
from sidlsg.evaluate.suite import DrawnSet, Format, Measure, Suite, TextFit
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.progress import Meter
from sidlsg.storage.files import atomic_write, sha256_bytes, sha256_file
from sidlsg.storage.records import Score, StyleMean, SubjectScores
from sidlsg.storage.store import S3, Store
from sidlsg.storage.tensors import load_tensors, save_tensors
from sidlsg.storage.uri import open_store
from sidlsg.teacher.images import Images
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting


class Keeper:
    """Writes the pictures of one generator."""

    def __init__(self, place: str, subject: str) -> None:
        """Args:
        place: a local folder, or `s3://BUCKET/PREFIX`.
        subject: whose pictures they are: a folder in it.

        Raises:
            InputError: the place cannot be used.
        """
        self._store = open_store(place)
        self._on_s3 = place.startswith(S3)
        self._subject = subject.replace(" ", "_").replace(",", "")

    def keep(self, drawn: str, block: int, files: Mapping[str, bytes]) -> None:
        """Keep a block of a set, complete or not at all on S3; the same block again replaces it.

        Args:
            drawn: the set's name.
            block: its number.
            files: contents by name, such as `00012.png`.

        Raises:
            StorageError: the server did not take it.
        """
        with tempfile.TemporaryDirectory() as scratch:
            if self._on_s3:
                path = Path(scratch) / "block.tar"
                atomic_write(path, _tar(files))
                self._store.put(f"{self._subject}/{drawn}/{block:06d}.tar", path, sha256_file(path))
                return
        for name, data in files.items():
            self._store.write(f"{self._subject}/{drawn}/{name}", data)


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Equal files make equal bytes: no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


BLOCK = 192
"""Pictures that are drawn, read and kept together: what a kill costs at most."""

Draw = Callable[[Sequence[str], Sequence[int]], Images]
"""Prompts and seeds to pictures."""


@dataclass(frozen=True, kw_only=True)
class SamplingPass:
    """How one generator's pictures are gone through."""

    draw: Draw
    identity: str
    """Says everything that pictures depend on besides prompt and seed."""
    label: str
    """For the progress line."""
    parts: Store
    """Receives what blocks gave. Processes on several machines need not share it."""
    folder: str
    """In that store."""
    world: World
    keeper: Keeper | None = None


def measured(drawn: DrawnSet, measures: Sequence[Measure], how: SamplingPass) -> dict[str, Tensor]:
    """Draw a set, its blocks shared out among the processes, and read all measures off each picture.

    Returns:
        [N, width] by measure, row i of picture i, at every process.

    Raises:
        InputError: a measure gives numbers of another shape, or NaN.
    """
    count, world = len(drawn.prompts), how.world
    memories = {measure.name: FeatureMemory(measure.width) for measure in measures}
    for measure in measures:
        # So that a process without a block of its own has something to sync.
        memories[measure.name].update(torch.zeros(0, measure.width), ())
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    own = range(world.rank, len(blocks), world.size)
    done, total = 0, sum(len(blocks[number]) for number in own)
    with Meter(how.label, total, "images") as meter:
        for number in own:
            for name, values in _block(drawn, measures, how, number, blocks[number]).items():
                memories[name].update(values, blocks[number])
            done += len(blocks[number])
            if world.is_rank0:
                meter.update(done)
    return {name: memory.compute() for name, memory in memories.items()}


def _block(
    drawn: DrawnSet, measures: Sequence[Measure], how: SamplingPass, block: int, places: range
) -> dict[str, Tensor]:
    prompts = [drawn.prompts[i] for i in places]
    part = f"{how.folder}/{drawn.name}/{block:06d}.safetensors"
    terms = [how.identity, drawn.format, NUMERICS["sampling"], repr(places), *prompts]
    identity = sha256_bytes("\n".join([*terms, *(f"{each.name} {each.identity}" for each in measures)]).encode())
    found = _kept(how.parts, part, identity)
    if found is not None:
        return found
    pictures = how.draw(prompts, places)
    files, pictures = _stored(pictures, drawn.format, read_back=drawn.format == "jpeg", encode=how.keeper is not None)
    if how.keeper is not None:
        # Before the numbers: a block that has numbers has its pictures.
        suffix = "jpg" if drawn.format == "jpeg" else drawn.format
        how.keeper.keep(drawn.name, block, {f"{i:05d}.{suffix}": file for i, file in zip(places, files, strict=True)})
    values = {measure.name: _checked(measure, pictures, prompts, how.label) for measure in measures}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "part.safetensors"
        save_tensors(path, values, {"identity": identity})
        how.parts.put(part, path, sha256_file(path))
    return values


def _kept(parts: Store, part: str, identity: str) -> dict[str, Tensor] | None:
    """What an earlier process read off these very pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "part.safetensors"
        try:
            parts.get(part, path)
            values, counters = load_tensors(path)
        except InputError:  # not there, or damaged
            return None
    return values if counters.get("identity") == identity else None


def _stored(pictures: Images, form: Format, read_back: bool, encode: bool) -> tuple[list[bytes], Images]:
    """The pictures' files, and the pictures as those give them back."""
    if not (read_back or encode):
        return [], pictures
    files = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format=form.upper())
        files.append(buffer.getvalue())
    if not read_back:
        return files, pictures
    return files, np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def _checked(measure: Measure, pictures: Images, prompts: Sequence[str], label: str) -> Tensor:
    values = measure(pictures, prompts)
    if values.shape != (len(pictures), measure.width):
        raise InputError(
            f"{label}: {measure.name} gave numbers of shape {list(values.shape)} for {len(pictures)} pictures, not "
            f"{measure.width} each; give the right network's file"
        )
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).any(1).nonzero()[0])
        raise InputError(
            f"{label}: {measure.name} gave NaN or infinity for the picture of {prompts[bad]!r}; look at that picture, "
            "and at the network's file"
        )
    return values


@dataclass(frozen=True, kw_only=True)
class EvaluationWork:
    """Where an evaluation is done, and what it leaves besides scores."""

    parts: Store
    """Receives what blocks of pictures gave, until the end."""
    world: World = field(default_factory=World)
    keep_images: str = ""
    """Folder or `s3://` prefix that receives the pictures; empty to keep none."""


def score_subject(
    name: str, sampler: StockSampler, setting: Setting, suites: Sequence[Suite], work: EvaluationWork
) -> tuple[SubjectScores, TextFit | None]:
    """Draw everything that the suites ask for, and score it.

    Under several processes, each draws its share; the one that leads computes the scores, and the others give none.

    Args:
        name: of the subject.
        sampler: of the generator's folder.
        setting: how it is sampled.
        suites: what is asked.
        work: where.

    Returns:
        The scores, and how well each picture fits its prompt by the first suite that reads prompts.

    Raises:
        InputError: pictures cannot be kept where they should, or a network does not fit.
    """
    folder = name.replace(" ", "_").replace(",", "")
    keeper = Keeper(work.keep_images, name) if work.keep_images else None
    scores: list[Score] = []
    styles: list[StyleMean] = []
    fit: TextFit | None = None
    for suite in suites:
        values: dict[str, dict[str, Tensor]] = {}
        for drawn in suite.sets:
            how = SamplingPass(
                draw=lambda prompts, seeds: sampler(prompts, seeds, setting),
                # A block that was measured without keeping its pictures is drawn again where they are to be kept.
                identity=f"{sampler.identity} {sampler.batch} {setting} {work.keep_images}",
                label=f"evaluate: {name}, {drawn.name}",
                parts=work.parts,
                folder=folder,
                world=work.world,
                keeper=keeper,
            )
            values[drawn.name] = measured(drawn, suite.measures(drawn), how)
        if work.world.is_rank0:
            scores += suite.scores(values)
            styles += suite.styles(values)
            fit = fit or suite.text_fit(values)
    found = SubjectScores(
        subject=name,
        steps=setting.steps,
        guidance_scale=setting.guidance_scale,
        scores=tuple(scores),
        styles=tuple(styles),
    )
    return found, fit
