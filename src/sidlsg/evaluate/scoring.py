"""One pass over the images of a set: each is sampled once and measured, and need not be kept.

The set is split into blocks that do not depend on the number of processes. The measures of a block are stored until the
evaluation ends, so that a killed evaluation resumes and gives the same numbers.
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
from sidlsg.evaluate.suite import Format, ImageSet, Measure, Suite, TextFit
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
    """Saves the images of one generator."""

    def __init__(self, uri: str, subject: str) -> None:
        """Save to a folder named after the subject, in a local folder or `s3://BUCKET/PREFIX`."""
        self._store = open_store(uri)
        self._on_s3 = uri.startswith(S3)
        self._subject = folder_of(subject)

    def keep(self, image_set: str, block: int, files: Mapping[str, bytes]) -> None:
        """Save files, by name, of one block of a set: one tar on S3. The same block again replaces it."""
        if self._on_s3:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "block.tar"
                atomic_write(path, _tar(files))
                self._store.put(f"{self._subject}/{image_set}/{block:06d}.tar", path, sha256_file(path))
            return
        for name, data in files.items():
            self._store.write(f"{self._subject}/{image_set}/{name}", data)


def folder_of(subject: str) -> str:
    """The folder name of a subject."""
    return subject.replace(" ", "_").replace(",", "")


def _tar(files: Mapping[str, bytes]) -> bytes:
    """A tar without times and owners, so that equal files give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


BLOCK = 192
"""Images that are sampled, measured and stored together: the most that a kill loses."""


@dataclass(frozen=True, kw_only=True)
class SamplingPass:
    """How the images of one generator are sampled and measured."""

    draw: Callable[[Sequence[str], Sequence[int]], Images]
    """Prompts and seeds to images."""
    identity: str
    """Everything that images depend on besides prompt and seed."""
    label: str
    """Start of the progress line."""
    parts: Store
    """Store for the measures of blocks. Processes on several machines need not share it."""
    folder: str
    """Folder in `parts`."""
    world: World
    keeper: Keeper | None = None


def measured(image_set: ImageSet, measures: Sequence[Measure], how: SamplingPass) -> dict[str, Tensor]:
    """Sample and measure a set, its blocks distributed among the processes.

    Returns:
        [N, width] by measure, row i of image i, in every process.

    Raises:
        InputError: a measure gives numbers of another shape, or NaN.
    """
    count, world = len(image_set.prompts), how.world
    memories = {measure.name: FeatureMemory(measure.width) for measure in measures}
    for measure in measures:
        # A process without a block still takes part in the sync.
        memories[measure.name].update(torch.zeros(0, measure.width), ())
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    own = range(world.rank, len(blocks), world.size)
    done, total = 0, sum(len(blocks[number]) for number in own)
    with Meter(how.label, total, "images") as meter:
        for number in own:
            for name, values in _block(image_set, measures, how, number, blocks[number]).items():
                memories[name].update(values, blocks[number])
            done += len(blocks[number])
            if world.is_rank0:
                meter.update(done)
    return {name: memory.compute() for name, memory in memories.items()}


def _block(
    image_set: ImageSet, measures: Sequence[Measure], how: SamplingPass, block: int, places: range
) -> dict[str, Tensor]:
    prompts = [image_set.prompts[i] for i in places]
    part = f"{how.folder}/{image_set.name}/{block:06d}.safetensors"
    terms = [how.identity, image_set.format, NUMERICS["sampling"], repr(places), *prompts]
    identity = sha256_bytes("\n".join([*terms, *(f"{each.name} {each.identity}" for each in measures)]).encode())
    found = _kept(how.parts, part, identity)
    if found is not None:
        return found
    images = how.draw(prompts, places)
    files, images = _stored(
        images, image_set.format, read_back=image_set.format == "jpeg", encode=how.keeper is not None
    )
    if how.keeper is not None:
        # Before the measures are stored: a block with stored measures has its images.
        suffix = "jpg" if image_set.format == "jpeg" else image_set.format
        how.keeper.keep(
            image_set.name, block, {f"{i:05d}.{suffix}": file for i, file in zip(places, files, strict=True)}
        )
    values = {measure.name: _checked(measure, images, prompts, how.label) for measure in measures}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "part.safetensors"
        save_tensors(path, values, {"identity": identity})
        how.parts.put(part, path, sha256_file(path))
    return values


def _kept(parts: Store, part: str, identity: str) -> dict[str, Tensor] | None:
    """The stored measures of the same images."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "part.safetensors"
        try:
            parts.get(part, path)
            values, counters = load_tensors(path)
        except InputError:  # not there, or damaged
            return None
    return values if counters.get("identity") == identity else None


def _stored(images: Images, form: Format, read_back: bool, encode: bool) -> tuple[list[bytes], Images]:
    """The encoded images, and the images as decoded from them."""
    if not (read_back or encode):
        return [], images
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format=form.upper())
        files.append(buffer.getvalue())
    if not read_back:
        return files, images
    return files, np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def _checked(measure: Measure, images: Images, prompts: Sequence[str], label: str) -> Tensor:
    values = measure(images, prompts)
    if values.shape != (len(images), measure.width):
        raise InputError(
            f"{label}: {measure.name} gave numbers of shape {list(values.shape)} for {len(images)} images, not "
            f"{measure.width} each; give the right network's file"
        )
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).any(1).nonzero()[0])
        raise InputError(
            f"{label}: {measure.name} gave NaN or infinity for the image of {prompts[bad]!r}; check that image and the "
            "network's file"
        )
    return values


@dataclass(frozen=True, kw_only=True)
class EvaluationWork:
    """The storage and processes of an evaluation."""

    parts: Store
    """For the measures of blocks until the end."""
    world: World = field(default_factory=World)
    keep_images: str = ""
    """Folder or `s3://` prefix for the images; empty to keep none."""


def score_subject(
    name: str, sampler: StockSampler, setting: Setting, suites: Sequence[Suite], work: EvaluationWork
) -> tuple[SubjectScores, TextFit | None]:
    """Sample and score a generator under all suites.

    Each process samples its share; rank 0 computes the scores, and the other processes return none.

    Returns:
        The scores, and how well each image fits its prompt by the first suite that measures it.

    Raises:
        InputError: images cannot be saved, or a network does not fit.
    """
    keeper = Keeper(work.keep_images, name) if work.keep_images else None
    scores: list[Score] = []
    styles: list[StyleMean] = []
    fit: TextFit | None = None
    for suite in suites:
        values: dict[str, dict[str, Tensor]] = {}
        for image_set in suite.sets:
            how = SamplingPass(
                draw=lambda prompts, seeds: sampler(prompts, seeds, setting),
                # Blocks that were measured without saving their images are sampled again if these are to be saved.
                identity=f"{sampler.identity} {sampler.batch} {setting} {work.keep_images}",
                label=f"evaluate: {name}, {image_set.name}",
                parts=work.parts,
                folder=folder_of(name),
                world=work.world,
                keeper=keeper,
            )
            values[image_set.name] = measured(image_set, suite.measures(image_set), how)
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
