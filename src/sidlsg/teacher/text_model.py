"""A teacher's text model on disk: its files, their digest, and the shape of a prompt's states."""

from __future__ import annotations

from pathlib import Path

from sidlsg.storage.files import sha256_files
from sidlsg.teacher.config import TEXT_ENCODER, TOKENIZER, read_config
from sidlsg.teacher.folder import model_files

PARTS = ("text_encoder", "tokenizer")


def text_model_digest(folder: Path) -> str:
    """SHA-256 over the files that decide a prompt's states: teachers that share a text model share it.

    Args:
        folder: of a `StableDiffusionPipeline`, checked.
    """
    return sha256_files(folder, [path for path in model_files(folder) if path.parent.name in PARTS])


def state_shape(folder: Path) -> tuple[int, int]:
    """(L, D): tokens and width of a prompt's states, read from the text model's configurations.

    Args:
        folder: of a `StableDiffusionPipeline`, checked.

    Raises:
        InputError: a configuration does not say, or a value is of another form.
    """
    return read_config(folder, TOKENIZER)["model_max_length"], read_config(folder, TEXT_ENCODER)["hidden_size"]
