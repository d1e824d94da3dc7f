"""A diffusers folder on disk: what it must hold, which of its files count, and their digest."""

from __future__ import annotations

import json
import math
import re
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
_WEIGHTS = re.compile(r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
"""The names that the stock pipeline loads; it passes over others, such as the variant `model.fp16.safetensors`."""
_TOKENIZER = "tokenizer/tokenizer_config.json"
_WHOLE = {
    "unet/config.json": ("in_channels", "out_channels", "cross_attention_dim"),
    "vae/config.json": ("latent_channels",),
    "text_encoder/config.json": ("hidden_size", "vocab_size", "max_position_embeddings"),
    "scheduler/scheduler_config.json": ("num_train_timesteps",),
    _TOKENIZER: ("model_max_length",),
}
"""Values that are read, by file: whole numbers, or not there."""
_LARGEST = 1 << 20
_ALLOWED = f"a whole number from 1 to {_LARGEST:,}"


def check_folder(folder: Path) -> None:
    """Check that a folder is a `StableDiffusionPipeline` with safetensors weights.

    Raises:
        InputError: something is missing, of another kind, or a pickle, a value that is read is not of its form, or a
            link leaves the folder.
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
    unet_config(folder)
    _check_values(folder)
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


def unet_config(folder: Path) -> dict[str, Any]:
    """The UNet's configuration, with `sample_size` as one number where it is a square.

    Raises:
        InputError: the file is missing, or the size is of another form.
    """
    path = folder / "unet" / "config.json"
    config = _read_object(path)
    size = config.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        config["sample_size"] = size = size[0]
    if not _is_whole(size):
        raise InputError(f"{path}: sample_size is {size!r}; allowed: {_ALLOWED}, or the same one twice for a square")
    return config


def _check_values(folder: Path) -> None:
    """Check the form of what the code reads from configurations, so that no library meets anything else."""
    found = {name: _read_object(folder / name) for name in _WHOLE}
    for name, keys in _WHOLE.items():
        for key in keys:
            if key in found[name] and not _is_whole(found[name][key]):
                raise InputError(f"{folder / name}: {key} is {found[name][key]!r}; allowed: {_ALLOWED}")
    tokenizer, encoder = found[_TOKENIZER], found["text_encoder/config.json"]
    if "model_max_length" not in tokenizer:
        raise InputError(f"{folder / _TOKENIZER} has no model_max_length; save the whole pipeline")
    tokens, positions = (
        tokenizer["model_max_length"],
        encoder.get("max_position_embeddings", tokenizer["model_max_length"]),
    )
    if tokens > positions:
        raise InputError(
            f"{folder / _TOKENIZER}: model_max_length is {tokens}, and the text encoder has {positions} positions; "
            "save both together"
        )
    scale = found["vae/config.json"].get("scaling_factor", 1)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise InputError(f"{folder / 'vae/config.json'}: scaling_factor is {scale!r}; allowed: a number above 0")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def is_about_use(name: str) -> bool:
    """Whether a file beside the pipeline is named like its card, or like a text of licence or use restrictions."""
    return name == CARD or name.lower().startswith(_ABOUT_USE)


def _check_shards(index: Path) -> None:
    """Check that an index leads to files beside it alone, which the digest covers."""
    shards = _read_object(index).get("weight_map")
    if not isinstance(shards, dict):
        raise InputError(f"{index} has no weight_map; save the pipeline again")
    for name in shards.values():
        if not isinstance(name, str) or not _WEIGHTS.fullmatch(name) or not (index.parent / name).is_file():
            raise InputError(
                f"{index} names {name!r}, which is not there or is no name of a shard, such as "
                "model-00001-of-00002.safetensors; save the pipeline again"
            )


def is_loaded(name: str) -> bool:
    """Whether the stock pipeline may read a file, by its name in the folder: of weights, variants are passed over."""
    component, _, file = name.partition("/")
    if not file:
        return component == INDEX
    if "/" in file or Path(file).suffix not in DATA_SUFFIXES:
        return False
    return ".safetensors" not in file or _WEIGHTS.fullmatch(file) is not None


def is_present(index: dict[str, Any], name: str) -> bool:
    """Whether a pipeline's index names a class for an optional component."""
    return (index.get(name) or [None])[0] is not None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} has no {path.name}; save the whole pipeline") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); save the pipeline again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; save the pipeline again")
    return value


def _check_weights(component: Path) -> None:
    if not (component / "config.json").is_file():
        raise InputError(f"{component} has no config.json; save the pipeline again")
    for path in component.glob("*.safetensors.index.json"):
        _check_shards(path)
    weights = sorted(path.name for path in component.glob("*.safetensors"))
    if any(_WEIGHTS.fullmatch(name) for name in weights):
        return
    if weights:
        raise InputError(
            f"{component} has no weights but {weights[0]}, which the stock pipeline does not load; save the pipeline "
            "without a variant"
        )
    pickles = sorted(p.name for p in component.iterdir() if p.suffix in _PICKLES)
    if pickles:
        raise InputError(
            f"{component / pickles[0]} is a pickle, which can run code when it is loaded; only safetensors are read: "
            "save the pipeline with safe_serialization=True"
        )
    raise InputError(f"{component} has no weights (*.safetensors); save the whole pipeline")


def model_files(folder: Path) -> list[Path]:
    """The files that make the model, sorted: the index and what is loaded of each component.

    Pickles, cards and variants of weights do not count.
    """
    files = [folder / INDEX]
    for name in COMPONENTS:
        files += [p for p in sorted((folder / name).iterdir()) if p.is_file() and is_loaded(f"{name}/{p.name}")]
    return files


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of the model's files."""
    return sha256_files(folder, model_files(folder))
