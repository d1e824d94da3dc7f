"""A teacher's text model on disk: its files, their digest, and the shape of a prompt's states."""

from __future__ import annotations

import json
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.storage import sha256_files
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
        InputError: a configuration does not say.
    """
    tokens = _positive(folder / "tokenizer" / "tokenizer_config.json", "model_max_length")
    return tokens, _positive(folder / "text_encoder" / "config.json", "hidden_size")


def _positive(path: Path, name: str) -> int:
    value = json.loads(path.read_text(encoding="utf-8")).get(name) if path.is_file() else None
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{path} does not say {name}; save the whole pipeline again")
    return value
