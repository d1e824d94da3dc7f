"""Chooses where a training run gets its text states from."""

from __future__ import annotations

from pathlib import Path

import torch

from sidlsg.prompts.read import read_prompts
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import EmbeddingSet, PromptSet
from sidlsg.teacher.embeddings import EmbeddingReader, OnTheFly, TextStates
from sidlsg.teacher.pipeline import Teacher
from sidlsg.teacher.text_model import text_model_digest


def choose_source(
    embeddings: Path | None, prompts: Path, teacher: Teacher, dtype: str, device: torch.device | str
) -> TextStates:
    """Shards where there are any, else the teacher's text encoder; both give the same states.

    With shards the text encoder leaves the device.

    Args:
        embeddings: folder of an EmbeddingSet; None, or a set without shards, to encode during training.
        prompts: folder of the PromptSet.
        teacher: whose text encoder it is.
        dtype: the recipe's `text_states`: what states are rounded to.
        device: where states are delivered.

    Raises:
        InputError: the states are of another prompt set or text encoder, are rounded further, or cannot be read.
    """
    if embeddings is not None:
        record = EmbeddingSet.load(embeddings)
        _check(record, embeddings, PromptSet.load(prompts), teacher)
        if record.shards:
            reader = EmbeddingReader(embeddings, device, dtype)
            teacher.encode.offload()
            return reader
    return OnTheFly(teacher.encode, read_prompts(prompts), dtype)


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
