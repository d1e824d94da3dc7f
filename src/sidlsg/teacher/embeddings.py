"""Text embeddings for training: read from the shards of an EmbeddingSet, or encoded on demand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import best_device, set_threads
from sidlsg.runtime.progress import Meter
from sidlsg.storage.records import EmbeddingSet, PromptSet, file_ref
from sidlsg.storage.tensors import save_tensors
from sidlsg.teacher.conditioning import Conditioning, joined, mapped
from sidlsg.teacher.families.family import STATES
from sidlsg.teacher.folder import text_encoder_digest
from sidlsg.teacher.pipeline import Teacher, load_pipeline, prompt_encoder
from sidlsg.teacher.shards import BLOCK, MappedShards, ShardFormat, shard_path
from sidlsg.teacher.text_encoder import PromptEncoder

KEY = "states"
"""A shard's first tensor, [n, L, D] in the order of the prompts: a conditioning's `STATES`. Others keep their names."""
DTYPES = {"float16": torch.float16, "float32": torch.float32}
SHARDS = ShardFormat(record=EmbeddingSet.FILE, what="text embeddings", stage="the encode stage")
TextEmbeddings = Callable[[Sequence[int], Sequence[bool]], tuple[Conditioning, Conditioning]]
"""Prompt indices, and whether the empty prompt replaces each, to (cond [B, …], uncond [1, …]), float32."""


def write_embeddings(path: Path, embeddings: Conditioning) -> None:
    """Write embeddings of n prompts, complete or not at all; equal ones give equal bytes."""
    if isinstance(embeddings, Tensor):
        save_tensors(path, {KEY: embeddings}, {})
    else:
        save_tensors(path, {KEY if name == STATES else name: each for name, each in embeddings.items()}, {})


def _conditioning(tensors: Mapping[str, Tensor]) -> Conditioning:
    """A shard's tensors as a network takes them."""
    if tensors.keys() == {KEY}:
        return tensors[KEY]
    return {STATES if name == KEY else name: each for name, each in tensors.items()}


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive blocks of `BLOCK` texts, the last one perhaps shorter."""
    rest = iter(texts)
    while block := list(islice(rest, BLOCK)):
        yield block


class EmbeddingReader:
    """Reads embeddings by prompt index from mapped shards."""

    def __init__(self, folder: Path, device: torch.device | str, dtype: str) -> None:
        """Args:
        folder: of an EmbeddingSet with shards.
        device: of the results.
        dtype: `float16` or `float32`: the precision of the results, at most that of the shards.

        Raises:
            InputError: the set cannot be used: it lacks shards or precision, or a file is missing or damaged.
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
            raise InputError(f"{folder} holds embeddings in {self.record.dtype!r}; allowed: {', '.join(DTYPES)}")
        self._held, self._dtype = DTYPES[self.record.dtype], DTYPES[dtype]
        if self._held.itemsize < self._dtype.itemsize:
            raise InputError(
                f"{folder} holds embeddings in {self.record.dtype}, but the recipe's text_states is {dtype}; "
                f"encode with dtype {dtype}, or set text_states to {self.record.dtype}"
            )
        self._shapes = {KEY: self.record.shape, **self.record.more}
        self._rows = MappedShards(folder, self.record.shards, self.record.count, self._shapes, self._held, SHARDS)
        empty = self._rows.open(self.record.uncond, 1)
        self._empty = {name: each[0].to(self._dtype, copy=True) for name, each in empty.items()}
        self.uncond = _conditioning(
            {name: each[None].to(self.device, torch.float32) for name, each in self._empty.items()}
        )
        """[1, …]: the empty prompt."""

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Conditioning, Conditioning]:
        """(cond [B, …], uncond [1, …]) in float32 on the device.

        Raises:
            InputError: a shard is missing, changed or damaged.
        """
        # From pinned memory the copy is asynchronous; each call has its own buffer, as the last one may be in use.
        on_gpu = self.device.type == "cuda"
        rows = {
            name: torch.empty((len(indices), *shape), dtype=self._dtype, pin_memory=on_gpu)
            for name, shape in self._shapes.items()
        }
        for row, (index, empty) in enumerate(zip(indices, replaced, strict=True)):
            for name, each in (self._empty if empty else self._rows[index]).items():
                rows[name][row] = each
        cond = {name: each.to(self.device, non_blocking=on_gpu).to(torch.float32) for name, each in rows.items()}
        return _conditioning(cond), self.uncond


class OnlineEmbeddings:
    """Encodes to the same embeddings, rounded as in shards of `dtype`; the text encoders stay in memory."""

    def __init__(self, encoder: PromptEncoder, texts: Sequence[str], dtype: str) -> None:
        self.encoder, self.texts = encoder, texts
        self._dtype = DTYPES[dtype]
        self.uncond = self._rounded(encoder.uncond)
        """[1, …]: the empty prompt."""

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Conditioning, Conditioning]:
        """(cond [B, …], uncond [1, …]) in float32 on the encoder's device."""
        texts = ["" if empty else self.texts[index] for index, empty in zip(indices, replaced, strict=True)]
        return self._rounded(self.encoder(texts)), self.uncond

    def _rounded(self, embeddings: Conditioning) -> Conditioning:
        return mapped(lambda each: each.to(self._dtype).to(torch.float32), embeddings)


def open_embeddings(
    embeddings: Path | None,
    prompts: PromptSet,
    texts: Callable[[], Sequence[str]],
    teacher: Teacher,
    dtype: str,
    device: torch.device | str,
) -> TextEmbeddings:
    """The embeddings in shards, whose text encoders leave the device, or the same ones encoded during training.

    Args:
        embeddings: folder of an EmbeddingSet; None, or a set without shards, to encode during training.
        prompts: record of the prompt set.
        texts: returns its texts in order, to encode during training.
        teacher: whose text encoder is used.
        dtype: the recipe's `text_states`: the embeddings' precision.
        device: of the results.

    Raises:
        InputError: the shards are of another prompt set or text encoder, less precise, or cannot be read.
    """
    if embeddings is not None:
        record = EmbeddingSet.load(embeddings)
        _check(record, embeddings, prompts, teacher)
        if record.shards:
            reader = EmbeddingReader(embeddings, device, dtype)
            teacher.encode.offload()
            return reader
    return OnlineEmbeddings(teacher.encode, texts(), dtype)


def _check(record: EmbeddingSet, embeddings: Path, prompts: PromptSet, teacher: Teacher) -> None:
    for what, found, wanted in (
        ("prompt set", record.prompts_sha256, prompts.digest),
        ("text encoder", record.text_encoder_sha256, text_encoder_digest(teacher.folder)),
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
"""Prompts whose embeddings leave the device together."""


def write_shards(
    record: EmbeddingSet, texts: Iterable[str], teacher: Path, folder: Path, report: Callable[[str], None]
) -> EmbeddingSet:
    """Encode a prompt set's texts into the missing shards of `folder`, and return the record with its files.

    Args:
        record: of the set, without its files.
        texts: in the set's order.
        teacher: folder of a family's pipeline.
        folder: receives `shards/00000.safetensors`, … and `uncond.safetensors`.
        report: receives a line about resuming.

    Raises:
        InputError: prompts or teacher cannot be used.
    """
    set_threads()
    encoder = prompt_encoder(teacher, load_pipeline(teacher, only_text=True), best_device())
    uncond, dtype = folder / "uncond.safetensors", DTYPES[record.dtype]
    write_embeddings(uncond, mapped(lambda each: each.to("cpu", dtype), encoder.uncond))
    shards = []
    done = sum(1 for _ in (folder / "shards").glob("*.safetensors")) * BLOCK
    if done:
        report(f"continues after {min(done, record.count):,} of {record.count:,} prompts")
    with Meter("encode", record.count, "prompts", done=min(done, record.count)) as meter:
        for number, block in enumerate(blocks(texts)):
            path = shard_path(folder, number)
            if not path.is_file():
                write_embeddings(path, _encode(encoder, block, dtype))
                meter.update(number * BLOCK + len(block))
            shards.append(file_ref(path, folder))
    return dataclasses.replace(record, shards=tuple(shards), uncond=file_ref(uncond, folder))


def _encode(encoder: PromptEncoder, texts: Sequence[str], dtype: torch.dtype) -> Conditioning:
    parts = [encoder.encode(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
    return joined(*(mapped(lambda each: each.to("cpu", dtype), part) for part in parts))
