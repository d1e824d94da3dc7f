"""Diffusers folders: what they must hold, which files count, and their digest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import sha256_bytes, sha256_files
from sidlsg.storage.uri import VARIANT
from sidlsg.teacher.config import (
    INDEX,
    SAVE_AGAIN,
    check_agreement,
    check_checker_forms,
    family_in,
    is_present,
    latent_shape,
    present,
    read_configs,
)
from sidlsg.teacher.families import FAMILIES
from sidlsg.teacher.families.family import NETWORKS
from sidlsg.teacher.families.sd import SD

OPTIONAL = ("safety_checker", "feature_extractor")
"""Optional components, which a student inherits."""
CARD = "README.md"
VARIANT_RECORD = "teacher_variant.json"
"""Says which variant of another folder's weights a folder holds; see `sidlsg.teacher.format`."""
_ABOUT_USE = ("license", "licence", "notice", "copying", "use_policy", "use-policy", "acceptable_use")
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
DATA_SUFFIXES = {".safetensors", ".json", ".txt", ".model"}
_OPTIONAL_CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "safety_checker": ("stable_diffusion", ("StableDiffusionSafetyChecker",)),
    "feature_extractor": ("transformers", ("CLIPImageProcessor", "CLIPFeatureExtractor")),
}
"""Library and classes that the index may name for an optional component."""
COMPONENTS = tuple(dict.fromkeys(name for family in FAMILIES for name in family.components))
"""The components of any family."""
WITH_WEIGHTS = tuple(dict.fromkeys(name for family in FAMILIES for name in family.with_weights))
_STEMS = dict.fromkeys((*NETWORKS, "vae"), "diffusion_pytorch_model")
"""Names of weight files, where that is not `model`."""
_ADAPTER = re.compile(r"adapter_|.*lora", re.IGNORECASE)
_POINTER = b"version https://git-lfs"
"""Begins the small file that git leaves in place of a large one."""
VIEWS = "variants"
"""The cache's folder of variants, with links to files elsewhere; see `sidlsg.teacher.format`."""


def check_folder(folder: Path) -> None:
    """Check that a folder is a family's pipeline with safetensors weights that the stock pipeline would load.

    Weights are not read: `sidlsg.teacher.pipeline` compares them with the networks.

    Raises:
        InputError: something is missing, wrong or a pickle, two components contradict each other, or a link leaves the
            folder.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give the folder of a saved pipeline (with {INDEX} in it)")
    index = folder / INDEX
    if not (index.is_file() or index.is_symlink()):
        raise InputError(f"{folder} has no {INDEX}; give the folder of a saved pipeline, such as {SD.pipeline}")
    check_links(folder, is_wanted)
    family, named = family_in(folder), read_object(index, SAVE_AGAIN)
    for name, component in family.components.items():
        if component.needed and (name not in named or not (folder / name).is_dir()):
            needed = [name for name, component in family.components.items() if component.needed]
            raise InputError(
                f"{folder} has no {name}; a {family.pipeline} needs {', '.join(needed)}: save the whole pipeline"
            )
    if family is not SD and is_present(named, "safety_checker"):
        raise InputError(
            f"{index} names a safety_checker, which a {family.pipeline} cannot use; set it to [null, null]"
        )
    components = {name: family.components[name] for name in present(folder)}
    for name, component in components.items():
        _check_class(index, name, named[name], component.library, component.classes)
    optional = [name for name in OPTIONAL if is_present(named, name)]
    for name in optional:
        _check_class(index, name, named[name], *_OPTIONAL_CLASSES[name])
    for name, component in components.items():
        if component.config not in _read_component(folder / name):
            raise InputError(f"{folder / name} has no {component.config}; {SAVE_AGAIN}")
        if component.weights:
            _check_weights(folder / name)
        if name.startswith("tokenizer"):
            check_vocabulary(folder / name)
    check_agreement(family, read_configs(folder))
    _check_optional(folder, optional)


def _check_class(index: Path, component: str, named: Any, library: str, classes: tuple[str, ...]) -> None:
    if not isinstance(named, list) or len(named) != 2 or named[0] != library or named[1] not in classes:
        raise InputError(
            f"{index} names {named!r} for the {component}; allowed: {', '.join(classes)} of {library}: give a pipeline "
            "with one of these"
        )


def _read_component(component: Path) -> dict[str, dict[str, Any]]:
    """A component's JSON objects by file name."""
    if not component.is_dir():
        raise InputError(f"no such folder: {component}, though {INDEX} names it; save the whole pipeline")
    files = [path for path in component.iterdir() if path.suffix in DATA_SUFFIXES | _PICKLES]
    if not files:
        raise InputError(f"{component} is empty; save the whole pipeline")
    for path in files:
        if _ADAPTER.match(path.name):
            raise InputError(f"{path} is an adapter's, which would not be used; fuse it, and {SAVE_AGAIN}")
    return {path.name: read_object(path, SAVE_AGAIN) for path in files if path.suffix == ".json"}


def check_vocabulary(tokenizer: Path) -> None:
    """Check that a tokenizer has its vocabulary, without which it loads and reads all prompts as the same one."""
    there = {path.name for path in tokenizer.iterdir() if path.is_file()}
    if {"tokenizer.json", "spiece.model", "tokenizer.model"} & there or {"vocab.json", "merges.txt"} <= there:
        return
    part = "vocab.json and no merges.txt" if "vocab.json" in there else "no vocabulary"
    raise InputError(
        f"{tokenizer} has {part}; it needs tokenizer.json, or both vocab.json and merges.txt: save the whole pipeline"
    )


def _check_optional(folder: Path, names: list[str]) -> None:
    """Check the optional components before training, since the student inherits them."""
    if "safety_checker" in names:
        path = folder / "safety_checker"
        _check_weights(path)
        check_checker_forms(path / "config.json", read_object(path / "config.json", SAVE_AGAIN))
        if "feature_extractor" not in names:
            raise InputError(
                f"{folder / INDEX} names a safety checker and no feature extractor, without which the stock pipeline "
                'does not load; save both, or set "safety_checker" to [null, null] there'
            )
    if "feature_extractor" in names:
        read_object(folder / "feature_extractor" / "preprocessor_config.json", SAVE_AGAIN)


def check_links(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Check the links among a folder's components and the files that `wanted` takes, by their names in the folder.

    Raises:
        InputError: a link is broken, or leaves the folder, except to the hub's cache that the folder is a part of.
    """
    whole = folder.resolve()
    allowed = [whole, *([whole.parent.parent / "blobs"] if whole.parent.name == "snapshots" else [])]
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_symlink() or not (wanted(name) or name in (*COMPONENTS, *OPTIONAL)):
            continue
        if not path.exists():
            raise InputError(
                f"{path} is a link to {path.readlink()}, where there is nothing; download the folder again, or copy it "
                "with the files themselves (cp --dereference)"
            )
        if not any(path.resolve().is_relative_to(each) for each in allowed) and not _is_view(folder):
            raise InputError(
                f"{path} is a link to {path.resolve()}, outside of the folder; put the file itself there if it belongs "
                "to the model"
            )


def _is_view(folder: Path) -> bool:
    return folder.parent.parent == cache_folder() / VIEWS


def is_about_use(name: str) -> bool:
    """Whether a file's name is that of a model card, or of a text of licence or use restrictions."""
    return name == CARD or name.lower().startswith(_ABOUT_USE)


def is_loaded(name: str) -> bool:
    """Whether the stock pipeline may read a file, by its name in the folder; variants of weights are ignored."""
    component, _, file = name.partition("/")
    if not file:
        return component == INDEX
    if "/" in file or Path(file).suffix not in DATA_SUFFIXES:
        return False
    names = rf"{_STEMS.get(component, 'model')}(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
    return ".safetensors" not in file or re.fullmatch(names, file) is not None


def is_wanted(name: str) -> bool:
    """Whether a file is the model's: it may be loaded, or is about the model's use or its variant."""
    return is_loaded(name) or is_about_use(name) or name == VARIANT_RECORD


def is_weights(name: str) -> bool:
    """Whether a file holds weights that may be loaded, or is the index of their shards."""
    return ".safetensors" in name and is_loaded(name)


def without_variant(name: str, variant: str) -> str:
    """The name of a variant's file without the variant, as in `model.fp16-00001-of-00002.safetensors`."""
    return name.replace(f".{variant}", "", 1)


def variants(names: Iterable[str]) -> list[str]:
    """The variants of weights among the names of a folder's files, such as `fp16` and `non_ema`."""
    parts = {(name, part) for name in names for part in re.findall(r"\.(\w+)", name)}
    return sorted({part for name, part in parts if is_weights(without_variant(name, part))})


def no_weights(component: Path | str, files: Iterable[str], variant: str = "") -> InputError:
    """The error for a network that has neither a variant nor standard weights.

    Args:
        component: path or URI of the network's folder.
        files: their names in it.
        variant: empty if standard weights alone were asked for.
    """
    name, files = Path(component).name, sorted(files)
    if found := variants(f"{name}/{file}" for file in files):
        lacks = f"neither {variant} nor standard weights" if variant else "no standard weights"
        return InputError(
            f"{component} has {lacks}, only variants: {', '.join(found)}; choose one with --variant {found[0]}, or "
            f"in the URI: URI{VARIANT}{found[0]}"
        )
    if other := [file for file in files if file.endswith(".safetensors")]:
        return InputError(
            f"{component} has {other[0]}, which the stock pipeline does not look for; name it "
            f"{_STEMS.get(name, 'model')}.safetensors"
        )
    if pickles := [file for file in files if Path(file).suffix in _PICKLES]:
        return InputError(
            f"{component}/{pickles[0]} is a pickle, which can run code when it is loaded; only safetensors are read: "
            "save the pipeline with safe_serialization=True"
        )
    return InputError(f"{component} has no weights (*.safetensors); save the whole pipeline")


def weight_files(component: Path) -> list[Path]:
    """A network's weight files: the shards of an index, otherwise one or none.

    Raises:
        InputError: an index of shards is damaged, or names a missing file.
    """
    stem = _STEMS.get(component.name, "model")
    whole, index = component / f"{stem}.safetensors", component / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [whole] if whole.is_file() else []
    shards = read_object(index, SAVE_AGAIN).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{index} has no weight_map of file names; {SAVE_AGAIN}")
    files = [component / name for name in sorted(set(shards.values()))]
    for path in files:
        if path.parent != component or not path.is_file() or not is_loaded(f"{component.name}/{path.name}"):
            raise InputError(
                f"{index} names {path.name}, which is not in {component} or not named like a shard, such as "
                f"{stem}-00001-of-00002.safetensors; save the whole pipeline"
            )
    return files


def _check_weights(component: Path) -> None:
    if not (component / "config.json").is_file():
        raise InputError(f"{component} has no config.json; {SAVE_AGAIN}")
    files = weight_files(component)
    if not files:
        raise no_weights(component, (path.name for path in component.iterdir()))
    for path in files:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise InputError(f"{path} is git's pointer to a file that was not downloaded; run `git lfs pull` there")


def model_files(folder: Path) -> list[Path]:
    """The files that make the model: the index, then those that are loaded of each component, sorted."""
    files = [folder / INDEX]
    for name in present(folder):
        files += [p for p in sorted((folder / name).iterdir()) if p.is_file() and is_loaded(f"{name}/{p.name}")]
    return files


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of the model's files."""
    return sha256_files(folder, model_files(folder))


def text_encoder_digest(folder: Path) -> str:
    """SHA-256 of what determines a prompt's conditioning: the model files of text encoders and tokenizers.

    Of families with more than text embeddings, also the shapes, the images' size, and how the empty prompt is encoded.
    """
    parts = ("text_encoder", "tokenizer")
    digest = sha256_files(folder, [path for path in model_files(folder) if path.parent.name.startswith(parts)])
    shapes = conditioning_shapes(folder)
    if len(shapes) == 1:
        return digest
    zeros = read_object(folder / INDEX, SAVE_AGAIN).get("force_zeros_for_empty_prompt")
    return sha256_bytes(json.dumps([digest, shapes, latent_shape(folder), zeros]).encode())


def conditioning_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a prompt's conditioning by name, the hidden states' (L, D) first; raises as `read_config`."""
    return family_in(folder).shapes(read_configs(folder))


def load_in_float32(config: Path) -> None:
    """Let the stock pipeline load a transformers model in float32.

    diffusers loads its networks in float32, transformers in the configuration's precision; a half-precision text
    encoder does not run with a float32 UNet.
    """
    if config.is_file():
        values = read_object(config, SAVE_AGAIN)
        for name in ("dtype", "torch_dtype"):
            if name in values:
                values[name] = "float32"
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
