"""Text states for training: read from the shards of an EmbeddingSet, or made when they are asked for."""

from __future__ import annotations

import dataclasses
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import best_device, set_threads
from sidlsg.runtime.progress import Meter
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import EmbeddingSet, FileRef, PromptSet, file_ref
from sidlsg.storage.tensors import save_tensors
from sidlsg.teacher.folder import text_model_digest
from sidlsg.teacher.pipeline import Teacher, load_pipeline
from sidlsg.teacher.text_encoder import PromptEncoder

KEY = "states"
"""The tensor of a file: [n, L, D], in the order of the prompts."""
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def shard_path(folder: Path, number: int) -> Path:
    """Where the states of a block are."""
    return folder / "shards" / f"{number:05}.safetensors"


def uncond_path(folder: Path) -> Path:
    """Where the empty prompt's states are."""
    return folder / "uncond.safetensors"


def write_states(path: Path, states: Tensor) -> None:
    """Write [n, L, D] states as one file, complete or not at all; equal states give equal bytes."""
    save_tensors(path, {KEY: states}, {})


def map_states(path: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """The states of a file as a tensor whose rows are read from the disk when they are used.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            states: Tensor = file.get_tensor(KEY)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} holds no text states ({error}); run the encode stage again") from error
    if states.shape != shape or states.dtype != dtype:
        raise InputError(
            f"{path} holds {tuple(states.shape)} {states.dtype}, but its record says {shape} {dtype}; "
            "run the encode stage again"
        )
    return states


BLOCK = 2048
"""Prompts a block. Training passes through a set block by block, so that text states are read from one file after
the other; for Stable Diffusion 1.5 in float16 such a file is 242 MB."""


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive blocks of `BLOCK` texts, the last one perhaps shorter."""
    rest = iter(texts)
    while block := list(islice(rest, BLOCK)):
        yield block


TextStates = Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor]]
"""Prompt indices and whether the empty prompt takes their place, to (cond [B, L, D], uncond [1, L, D]), float32."""

MAPPED = 16
"""Shards that are kept mapped; training reads from one or two at a time."""


class EmbeddingReader:
    """Reads states by prompt index; the files stay on the disk, and the system's page cache holds what was used.

    A shard is checked against its digest when it is first used: the whole set may be hundreds of gigabytes, and the
    check brings the shard, whose rows training is about to use in random order, into the page cache.
    """

    def __init__(self, folder: Path, device: torch.device | str, dtype: str) -> None:
        """Args:
        folder: of an EmbeddingSet with shards.
        device: where states are delivered.
        dtype: `float16` or `float32`: what states are rounded to; shards may hold more than that, not less.

        Raises:
            InputError: there is no such set, it has no shards or not as many as its prompts need, it holds less
                than `dtype`, or the empty prompt's file is missing or damaged.
        """
        self.folder = folder
        self.record = EmbeddingSet.load(folder)
        self.device = torch.device(device)
        needed = -(-self.record.count // BLOCK)
        if self.record.uncond is None or len(self.record.shards) != needed:
            raise InputError(
                f"{folder} names {len(self.record.shards)} shards, but its {self.record.count:,} prompts have "
                f"{needed}; run the encode stage again, with a larger budget if it wrote none"
            )
        if self.record.dtype not in DTYPES:
            raise InputError(f"{folder} holds states in {self.record.dtype!r}; allowed: {', '.join(DTYPES)}")
        self._held, self._dtype = DTYPES[self.record.dtype], DTYPES[dtype]
        if self._held.itemsize < self._dtype.itemsize:
            raise InputError(
                f"{folder} holds states in {self.record.dtype}, but the recipe's text_states is {dtype}; "
                f"encode with dtype {dtype}, or set text_states to {self.record.dtype}"
            )
        self._checked: set[int] = set()
        self._mapped: OrderedDict[int, Tensor] = OrderedDict()
        self._empty = self._open(self.record.uncond, 1)[0].to(self._dtype, copy=True)
        self.uncond = self._empty[None].to(self.device, torch.float32)
        """[1, L, D]: the empty prompt."""

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """(cond [B, L, D], uncond [1, L, D]) in float32 on the device.

        Raises:
            InputError: a shard is missing, changed or damaged.
        """
        # From page-locked memory the copy goes on while the host works; each call has a buffer of its own, as rows of
        # the batch before may still be on their way. Rows are rounded as they are put into it.
        on_gpu = self.device.type == "cuda"
        rows = torch.empty((len(indices), *self.record.shape), dtype=self._dtype, pin_memory=on_gpu)
        for place, (index, empty) in enumerate(zip(indices, replaced, strict=True)):
            rows[place] = self._empty if empty else self._shard(index // BLOCK)[index % BLOCK]
        return rows.to(self.device, non_blocking=on_gpu).to(torch.float32), self.uncond

    def _shard(self, number: int) -> Tensor:
        if number in self._mapped:
            self._mapped.move_to_end(number)
            return self._mapped[number]
        ref = self.record.shards[number]
        count = min(BLOCK, self.record.count - number * BLOCK)
        states = self._open(ref, count, checked=number in self._checked)
        self._checked.add(number)
        self._mapped[number] = states
        if len(self._mapped) > MAPPED:
            self._mapped.popitem(last=False)
        return states

    def _open(self, ref: FileRef, count: int, checked: bool = False) -> Tensor:
        if "://" in ref.path:
            raise InputError(f"{ref.path} of {self.folder} is not on this machine; copy the whole set here first")
        path = self.folder / ref.path
        if not path.is_file():
            raise InputError(f"{path} is missing, though {EmbeddingSet.FILE} names it; run the encode stage again")
        if not checked and sha256_file(path) != ref.sha256:
            raise InputError(
                f"{path} differs from what {EmbeddingSet.FILE} says: it was changed or damaged; "
                "run the encode stage again"
            )
        return map_states(path, (count, *self.record.shape), self._held)


class OnTheFly:
    """Makes the same states with the text encoder, which stays in memory; the empty prompt's are made once."""

    def __init__(self, encoder: PromptEncoder, texts: Sequence[str], dtype: str) -> None:
        """Args:
        encoder: of the teacher.
        texts: the prompt set, in its order.
        dtype: `float16` or `float32`: what states are rounded to, as shards of that type hold them.
        """
        self.encoder, self.texts = encoder, texts
        self._dtype = DTYPES[dtype]
        self.uncond = self._rounded(encoder.uncond)
        """[1, L, D]: the empty prompt."""

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """(cond [B, L, D], uncond [1, L, D]) in float32 on the encoder's device."""
        texts = ["" if empty else self.texts[index] for index, empty in zip(indices, replaced, strict=True)]
        return self._rounded(self.encoder(texts)), self.uncond

    def _rounded(self, states: Tensor) -> Tensor:
        return states.to(self._dtype).to(torch.float32)


def choose_source(
    embeddings: Path | None,
    prompts: PromptSet,
    texts: Callable[[], Sequence[str]],
    teacher: Teacher,
    dtype: str,
    device: torch.device | str,
) -> TextStates:
    """Shards where there are any, else the teacher's text encoder; both give the same states.

    With shards the text encoder leaves the device.

    Args:
        embeddings: folder of an EmbeddingSet; None, or a set without shards, to encode during training.
        prompts: record of the prompt set.
        texts: gives its texts in order; asked only where prompts are encoded during training.
        teacher: whose text encoder it is.
        dtype: the recipe's `text_states`: what states are rounded to.
        device: where states are delivered.

    Raises:
        InputError: the states are of another prompt set or text encoder, are rounded further, or cannot be read.
    """
    if embeddings is not None:
        record = EmbeddingSet.load(embeddings)
        _check(record, embeddings, prompts, teacher)
        if record.shards:
            reader = EmbeddingReader(embeddings, device, dtype)
            teacher.encode.offload()
            return reader
    return OnTheFly(teacher.encode, texts(), dtype)


def _check(record: EmbeddingSet, embeddings: Path, prompts: PromptSet, teacher: Teacher) -> None:
    for what, found, wanted in (
        ("prompt set", record.prompts_sha256, prompts.digest),
        ("text encoder", record.text_encoder_sha256, text_model_digest(teacher.folder)),
    ):
        if found != wanted:
            raise InputError(
                f"{embeddings} was encoded from {what} {found[:16]}…, but {wanted[:16]}… was given; "
                "give the one that it was made from, or run the encode stage again"
            )
    if record.count != prompts.count:
        raise InputError(
            f"{embeddings} is of {record.count:,} prompts, but the prompt set has {prompts.count:,}; "
            "run the encode stage again"
        )


CHUNK = 256
"""Prompts whose states leave the device together."""


def write_shards(
    record: EmbeddingSet, texts: Iterable[str], teacher: Path, folder: Path, report: Callable[[str], None]
) -> EmbeddingSet:
    """Encode every block that `folder` has no shard of.

    Args:
        record: what is to be written, without its files.
        texts: the prompt set's, in order.
        teacher: folder of a `StableDiffusionPipeline`.
        folder: receives `shards/00000.safetensors`, … and `uncond.safetensors`.
        report: receives a line about resuming.

    Returns:
        The record with its files.

    Raises:
        InputError: prompts or teacher cannot be used.
    """
    set_threads()
    encoder = _load_encoder(teacher, best_device())
    write_states(uncond_path(folder), encoder.uncond.to("cpu", DTYPES[record.dtype]))
    shards = []
    done = sum(1 for _ in (folder / "shards").glob("*.safetensors")) * BLOCK
    if done:
        report(f"continues after {min(done, record.count):,} of {record.count:,} prompts")
    with Meter("encode", record.count, "prompts", done=min(done, record.count)) as meter:
        for number, block in enumerate(blocks(texts)):
            path = shard_path(folder, number)
            if not path.is_file():
                write_states(path, _states(encoder, block, record))
                meter.update(number * BLOCK + len(block))
            shards.append(file_ref(path, folder))
    return dataclasses.replace(record, shards=tuple(shards), uncond=file_ref(uncond_path(folder), folder))


def _load_encoder(teacher: Path, device: torch.device) -> PromptEncoder:
    pipeline = load_pipeline(teacher)
    pipeline.text_encoder.requires_grad_(False).eval().to(device)
    return PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, device)


def _states(encoder: PromptEncoder, texts: Sequence[str], record: EmbeddingSet) -> Tensor:
    states = torch.empty((len(texts), *record.shape), dtype=DTYPES[record.dtype])
    for start in range(0, len(texts), CHUNK):
        part = texts[start : start + CHUNK]
        states[start : start + len(part)] = encoder.encode(part)
    return states
