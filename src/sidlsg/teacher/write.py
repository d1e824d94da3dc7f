"""Writes the text states of a prompt set, one block in memory at a time, and goes on where an earlier try stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sidlsg.prompts.read import iter_prompts
from sidlsg.runtime.hardware import best_device, set_threads
from sidlsg.runtime.progress import Meter
from sidlsg.storage.records import EmbeddingSet, file_ref
from sidlsg.teacher.blocks import BLOCK, blocks
from sidlsg.teacher.pipeline import load_pipeline
from sidlsg.teacher.shards import DTYPES, shard_path, uncond_path, write_states
from sidlsg.teacher.text_encoder import PromptEncoder

CHUNK = 256
"""Prompts whose states leave the device together."""


def write_shards(
    record: EmbeddingSet, prompts: Path, teacher: Path, folder: Path, report: Callable[[str], None]
) -> EmbeddingSet:
    """Encode every block that `folder` has no shard of.

    Args:
        record: what is to be written, without its files.
        prompts: folder of the PromptSet.
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
        for number, texts in enumerate(blocks(iter_prompts(prompts))):
            path = shard_path(folder, number)
            if not path.is_file():
                write_states(path, _states(encoder, texts, record))
                meter.update(number * BLOCK + len(texts))
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
