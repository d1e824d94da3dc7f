"""A diffusers folder on disk: what it must hold, which of its files count, and their digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sidlsg.errors import InputError
from sidlsg.storage import sha256_files

COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WITH_WEIGHTS = ("unet", "vae", "text_encoder")
INDEX = "model_index.json"
CARD = "README.md"
_ABOUT_USE = ("license", "licence", "notice", "copying", "use_policy", "use-policy", "acceptable_use")
PIPELINE = "StableDiffusionPipeline"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
DATA_SUFFIXES = {".safetensors", ".json", ".txt", ".model"}


def check_folder(folder: Path) -> None:
    """Check that a folder is a `StableDiffusionPipeline` with safetensors weights.

    Raises:
        InputError: something is missing, of another kind, or a pickle, or a link leaves the folder.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give the folder of a StableDiffusionPipeline (with {INDEX} in it)")
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder} has no {INDEX}; give the folder of a saved StableDiffusionPipeline")
    _check_links(folder)
    named = _read_object(index)
    kind = named.get("_class_name", PIPELINE)
    if kind != PIPELINE:
        raise InputError(f"{folder} is a {kind}; a teacher must be a {PIPELINE}: give another folder")
    for name in COMPONENTS:
        if name not in named or not (folder / name).is_dir():
            raise InputError(
                f"{folder} has no {name}; a teacher needs {', '.join(COMPONENTS)}: save the whole pipeline"
            )
        files = [path for path in (folder / name).iterdir() if path.suffix in DATA_SUFFIXES | _PICKLES]
        if not files:
            raise InputError(f"{folder / name} is empty; save the whole pipeline")
        for path in files:
            if path.suffix == ".json":
                _read_object(path)
    for name in WITH_WEIGHTS:
        _check_weights(folder / name)
    if is_present(named, "safety_checker"):
        # A student carries its teacher's safety checker: it must be readable before training starts, not after.
        _check_weights(folder / "safety_checker")


def _check_links(folder: Path) -> None:
    """Check that no link leaves a folder, but to the files of the hub's cache that the folder is a part of."""
    whole = folder.resolve()
    allowed = [whole, *([whole.parent.parent / "blobs"] if whole.parent.name == "snapshots" else [])]
    for path in folder.rglob("*"):
        if path.is_symlink() and not any(path.resolve().is_relative_to(each) for each in allowed):
            raise InputError(
                f"{path} is a link to {path.resolve()}, outside of the folder; put the file itself there if it belongs "
                "to the model"
            )


def is_about_use(name: str) -> bool:
    """Whether a file beside the pipeline is named like its card, or like a text of licence or use restrictions."""
    return name == CARD or name.lower().startswith(_ABOUT_USE)


def is_present(index: dict[str, Any], name: str) -> bool:
    """Whether a pipeline's index names a class for an optional component."""
    return (index.get(name) or [None])[0] is not None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); save the pipeline again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; save the pipeline again")
    return value


def _check_weights(component: Path) -> None:
    if not (component / "config.json").is_file():
        raise InputError(f"{component} has no config.json; save the pipeline again")
    if any(component.glob("*.safetensors")):
        return
    pickles = sorted(p.name for p in component.iterdir() if p.suffix in _PICKLES)
    if pickles:
        raise InputError(
            f"{component / pickles[0]} is a pickle, which can run code when it is loaded; only safetensors are read: "
            "save the pipeline with safe_serialization=True"
        )
    raise InputError(f"{component} has no weights (*.safetensors); save the whole pipeline")


def model_files(folder: Path) -> list[Path]:
    """The files that make the model, sorted: the index and each component's data; pickles and cards do not count."""
    files = [folder / INDEX]
    for name in COMPONENTS:
        files += [p for p in sorted((folder / name).iterdir()) if p.is_file() and p.suffix in DATA_SUFFIXES]
    return files


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of the model's files."""
    return sha256_files(folder, model_files(folder))
