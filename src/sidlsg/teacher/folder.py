"""Diffusers folders: what they must hold, which files count, and their digest."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.files import sha256_files
from sidlsg.storage.records import FileRef, Licence, file_ref
from sidlsg.storage.uri import FolderFormat
from sidlsg.teacher.config import (
    CONFIGS,
    SAVE_AGAIN,
    TEXT_ENCODER,
    TOKENIZER,
    check_agreement,
    check_checker_forms,
    check_forms,
    read_config,
)

COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WITH_WEIGHTS = ("unet", "vae", "text_encoder")
OPTIONAL = ("safety_checker", "feature_extractor")
"""Optional components, which a student inherits."""
INDEX = "model_index.json"
CARD = "README.md"
_ABOUT_USE = ("license", "licence", "notice", "copying", "use_policy", "use-policy", "acceptable_use")
PIPELINE = "StableDiffusionPipeline"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
DATA_SUFFIXES = {".safetensors", ".json", ".txt", ".model"}
SCHEDULERS = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""The stock pipeline's schedulers that have β, ᾱ and a prediction type."""
_CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": ("diffusers", SCHEDULERS),
    "safety_checker": ("stable_diffusion", ("StableDiffusionSafetyChecker",)),
    "feature_extractor": ("transformers", ("CLIPImageProcessor", "CLIPFeatureExtractor")),
}
"""Library and classes that the index may name for a component."""
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
"""Names of weight files, where that is not `model`."""
_ADAPTER = re.compile(r"adapter_|.*lora", re.IGNORECASE)


def check_folder(folder: Path) -> None:
    """Check that a folder is a `StableDiffusionPipeline` with safetensors weights that the stock pipeline would load.

    Weights are not read: `sidlsg.teacher.pipeline` compares them with the networks.

    Raises:
        InputError: something is missing, wrong or a pickle, two components contradict each other, or a link leaves the
            folder.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give the folder of a StableDiffusionPipeline (with {INDEX} in it)")
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder} has no {INDEX}; give the folder of a saved StableDiffusionPipeline")
    _check_links(folder)
    named = read_object(index, SAVE_AGAIN)
    kind = named.get("_class_name", PIPELINE)
    if kind != PIPELINE:
        raise InputError(f"{folder} is a {kind}; a teacher must be a {PIPELINE}: give another folder")
    for name in COMPONENTS:
        if name not in named or not (folder / name).is_dir():
            raise InputError(
                f"{folder} has no {name}; a teacher needs {', '.join(COMPONENTS)}: save the whole pipeline"
            )
    optional = [name for name in OPTIONAL if is_present(named, name)]
    for name in (*COMPONENTS, *optional):
        _check_class(index, name, named[name])
    contents = {name: _read_component(folder / name) for name in COMPONENTS}
    for name in WITH_WEIGHTS:
        _check_weights(folder / name)
    check_vocabulary(folder / "tokenizer")
    configs = {}
    for config in CONFIGS:
        component, file = config.split("/")
        if file not in contents[component]:
            raise InputError(f"{folder / component} has no {file}; save the whole pipeline")
        configs[config] = contents[component][file]
        check_forms(folder / config, configs[config], config)
    check_agreement(folder, configs)
    _check_optional(folder, optional)


def _check_class(index: Path, component: str, named: Any) -> None:
    library, classes = _CLASSES[component]
    if not isinstance(named, list) or len(named) != 2 or named[0] != library or named[1] not in classes:
        raise InputError(
            f"{index} names {named!r} for the {component}; allowed: {', '.join(classes)} of {library}: give a pipeline "
            "with one of these"
        )


def _read_component(component: Path) -> dict[str, dict[str, Any]]:
    """A component's JSON objects by file name."""
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
    if "tokenizer.json" in there or {"vocab.json", "merges.txt"} <= there:
        return
    part = "vocab.json and no merges.txt" if "vocab.json" in there else "no vocabulary"
    raise InputError(
        f"{tokenizer} has {part}; it needs tokenizer.json, or both vocab.json and merges.txt: save the whole pipeline"
    )


def _check_optional(folder: Path, present: list[str]) -> None:
    """Check the optional components before training, since the student inherits them."""
    if "safety_checker" in present:
        path = folder / "safety_checker"
        _check_weights(path)
        check_checker_forms(path / "config.json", read_object(path / "config.json", SAVE_AGAIN))
        if "feature_extractor" not in present:
            raise InputError(
                f"{folder / INDEX} names a safety checker and no feature extractor, without which the stock pipeline "
                'does not load; save both, or set "safety_checker" to [null, null] there'
            )
    if "feature_extractor" in present:
        read_object(folder / "feature_extractor" / "preprocessor_config.json", SAVE_AGAIN)


def _check_links(folder: Path) -> None:
    """Check that no link leaves the folder, except to the hub's cache that the folder is a part of."""
    whole = folder.resolve()
    allowed = [whole, *([whole.parent.parent / "blobs"] if whole.parent.name == "snapshots" else [])]
    for path in folder.rglob("*"):
        if path.is_symlink() and not any(path.resolve().is_relative_to(each) for each in allowed):
            raise InputError(
                f"{path} is a link to {path.resolve()}, outside of the folder; put the file itself there if it belongs "
                "to the model"
            )


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


def is_present(index: dict[str, Any], name: str) -> bool:
    """Whether a pipeline's index names a class for an optional component."""
    return index.get(name) not in (None, [None, None])


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
    if weight_files(component):
        return
    others = sorted(path.name for path in component.iterdir() if path.suffix in {".safetensors", *_PICKLES})
    variants = [name for name in others if name.endswith(".safetensors")]
    if variants:
        raise InputError(
            f"{component} has {variants[0]}, which the stock pipeline does not look for; name it "
            f"{_STEMS.get(component.name, 'model')}.safetensors"
        )
    if others:
        raise InputError(
            f"{component / others[0]} is a pickle, which can run code when it is loaded; only safetensors are read: "
            "save the pipeline with safe_serialization=True"
        )
    raise InputError(f"{component} has no weights (*.safetensors); save the whole pipeline")


def model_files(folder: Path) -> list[Path]:
    """The files that make the model: the index, then those that are loaded of each component, sorted."""
    files = [folder / INDEX]
    for name in COMPONENTS:
        files += [p for p in sorted((folder / name).iterdir()) if p.is_file() and is_loaded(f"{name}/{p.name}")]
    return files


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of the model's files."""
    return sha256_files(folder, model_files(folder))


FOLDER = "teacher"
"""The folder in a student's folder with its teacher's card and licence texts."""
_MOST_BYTES = 1 << 20
"""The maximum size of a licence text."""


def licence_files(folder: Path) -> list[Path]:
    """A model folder's card, and its texts of licence and use restrictions."""
    found = [path for path in folder.iterdir() if is_about_use(path.name)]
    return sorted(path for path in found if path.is_file() and path.stat().st_size <= _MOST_BYTES)


def copy_licence(teacher: Path, student: Path) -> Licence:
    """Copy a teacher's card and licence texts into its student's folder."""
    files: list[FileRef] = []
    for path in licence_files(teacher):
        target = student / FOLDER / path.name
        target.parent.mkdir(exist_ok=True)
        files.append(file_ref(Path(shutil.copyfile(path, target)), student))
    named = _named(teacher / CARD)
    return Licence(
        name=_text(named.get("license_name") if named.get("license") == "other" else named.get("license")),
        link=_text(named.get("license_link")),
        files=tuple(files),
    )


def _named(card: Path) -> dict[str, Any]:
    """The metadata of a model card; empty where it cannot be read."""
    # These imports take a second.
    import yaml
    from huggingface_hub import ModelCard

    try:
        text = card.read_text(encoding="utf-8")
        # The library warns of a card without metadata.
        return dict(vars(ModelCard(text, ignore_metadata_errors=True).data)) if text.startswith("---") else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _text(value: Any) -> str:
    # Some cards give a list.
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def text_encoder_digest(folder: Path) -> str:
    """SHA-256 over the model files of text encoder and tokenizer, which determine a prompt's embeddings."""
    parts = ("text_encoder", "tokenizer")
    return sha256_files(folder, [path for path in model_files(folder) if path.parent.name in parts])


def embedding_shape(folder: Path) -> tuple[int, int]:
    """(L, D): tokens and width of a prompt's embeddings; raises InputError for a bad configuration."""
    return read_config(folder, TOKENIZER)["model_max_length"], read_config(folder, TEXT_ENCODER)["hidden_size"]


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


DIFFUSERS = FolderFormat(
    wanted=lambda name: is_loaded(name) or is_about_use(name), check=check_folder, digest=folder_digest
)
"""The format of a `StableDiffusionPipeline` folder as an input."""
