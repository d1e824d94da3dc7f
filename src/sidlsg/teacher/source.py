"""Sources of a teacher: a diffusers folder, or one safetensors file that is converted and cached."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError, safe_open

from sidlsg.runtime.errors import InputError, first_line
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import atomic_folder, file_lock, refuse_foreign, refuse_inside, sha256_file, sha256_files
from sidlsg.storage.records import Record
from sidlsg.storage.uri import resolve, resolve_with_digest, with_variant
from sidlsg.teacher.config import INDEX, SAVE_AGAIN, is_present
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.folder import (
    DATA_SUFFIXES,
    OPTIONAL,
    check_folder,
    check_vocabulary,
    folder_digest,
    weight_files,
)
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.licence import licence_files

SUFFIX = ".safetensors"
_OTHERS = {
    "conditioner.embedders.1.": "Stable Diffusion XL",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "FLUX",
}
"""Beginnings of weights' names in single files of other families."""
UNET_PREFIX = "model.diffusion_model."
TEXT_PREFIX = "cond_stage_model.transformer."
"""The prefix of a CLIPTextModel's weights; the second generation's text encoder has other names."""
_PREFIXES = {"unet": UNET_PREFIX, "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
_NAMES = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
_SAME_KIND = "give the layout of the model that the file is of, such as the folder of SD 1.5 for weights of SD 1.5"


@dataclass(frozen=True, kw_only=True)
class Conversion(Record):
    """Inputs and output of a conversion."""

    FILE: ClassVar[str] = "conversion.json"
    file_sha256: str
    layout_sha256: str
    """Digest of the layout's files that were used."""
    diffusers: str
    transformers: str
    folder_sha256: str
    """Digest of the model files in the folder."""


def check_single_file(file: Path) -> None:
    """Check that a safetensors file holds a Stable Diffusion's networks under their original names.

    Raises:
        InputError: it is another file, or a network is missing.
    """
    if file.suffix in (".ckpt", ".bin", ".pt", ".pth", ".pkl"):
        raise InputError(f"{file} is a pickle, which can run code when it is loaded; give the same model as {SUFFIX}")
    if file.suffix != SUFFIX:
        raise InputError(f"{file} is not a {SUFFIX} file; give a folder of a {SD.pipeline}, or one {SUFFIX} file")
    shapes = tensor_shapes(file)
    for prefix, title in _OTHERS.items():
        if any(each.startswith(prefix) for each in shapes):
            raise InputError(
                f"{file} is a {title} in one file; only Stable Diffusion 1 and 2 are taken in one: give its diffusers "
                "folder"
            )
    for name, prefix in _PREFIXES.items():
        if not any(each.startswith(prefix) for each in shapes):
            raise InputError(
                f"{file} holds no weight named {prefix}…, so it lacks the {_NAMES[name]} of a Stable Diffusion in one "
                "file; a part of one (a UNet, a LoRA) is not a teacher: give the whole model"
            )


def layout_files(layout: Path) -> list[Path]:
    """The files of a layout that a conversion uses, sorted by component.

    A safety checker is used if its weights and its feature extractor exist.

    Raises:
        InputError: the folder does not describe a `StableDiffusionPipeline`.
    """
    index = _read_index(layout)
    files = [layout / INDEX]
    for name in (*SD.components, *_kept(layout, index)):
        if not (layout / name).is_dir():
            raise InputError(
                f"the layout {layout} has no {name}; it needs {', '.join(SD.components)}, without weights: {_SAME_KIND}"
            )
        suffixes = DATA_SUFFIXES - {SUFFIX} if name in SD.with_weights else DATA_SUFFIXES
        # An index of shards belongs to weights that are not used.
        found = [p for p in sorted((layout / name).iterdir()) if p.suffix in suffixes and ".index." not in p.name]
        if name in SD.with_weights and layout / name / "config.json" not in found:
            raise InputError(f"{layout / name} has no config.json; {_SAME_KIND}")
        files += found
    check_vocabulary(layout / "tokenizer")
    if not (layout / "scheduler" / "scheduler_config.json").is_file():
        raise InputError(f"{layout / 'scheduler'} has no scheduler_config.json; {_SAME_KIND}")
    return files


def conversion_of(file: Path, layout: Path, file_sha256: str = "") -> Conversion:
    """The record of a conversion with the installed libraries, without `folder_sha256`; arguments as below."""
    check_single_file(file)
    return Conversion(
        file_sha256=file_sha256 or sha256_file(file),
        layout_sha256=sha256_files(layout, layout_files(layout)),
        diffusers=version("diffusers"),
        transformers=version("transformers"),
        folder_sha256="",
    )


def convert_single_file(file: Path, layout: Path, output: Path, file_sha256: str = "") -> Conversion:
    """Convert a single-file Stable Diffusion to a diffusers folder with a `Conversion` record, without downloads.

    diffusers converts the weights; every other file is the layout's, byte for byte. If the file holds an EMA of the
    UNet, the EMA is used. Half precision stays half precision.

    Args:
        file: safetensors with weights under their original names (`model.diffusion_model.…`).
        layout: a folder with `model_index.json` and each component's small files; weights in it are not read.
        output: the new folder.
        file_sha256: the file's digest if it is known; empty to compute it.

    Raises:
        InputError: an input or the output folder cannot be used, or the file does not fit the layout.
    """
    refuse_foreign(output, Conversion.FILE)
    refuse_inside(output, file=file, layout=layout)
    made_from = conversion_of(file, layout, file_sha256)
    shapes = tensor_shapes(file)
    kinds = {kind for name, (_, kind) in shapes.items() if name.startswith(tuple(_PREFIXES.values())) and "F" in kind}
    with atomic_folder(output, Conversion.FILE) as folder:
        for source in layout_files(layout):
            target = folder / source.relative_to(layout)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
        for source in licence_files(layout):
            shutil.copyfile(source, folder / source.name)
        _write_index(layout, folder)
        for name in SD.with_weights:
            half = kinds == {"F16"}
            if name == "text_encoder" and _is_bare(shapes):
                network = _bare_text_encoder(file, layout, half)
            else:
                network = _network(name, file, layout, half)
            if name == "unet":
                _require_all_used(network, shapes, file, layout)
            network.save_pretrained(folder / name, safe_serialization=True)
            # The libraries write their version into the configuration; the digest must not depend on it.
            shutil.copyfile(layout / name / "config.json", folder / name / "config.json")
        record = Conversion(**{**vars(made_from), "folder_sha256": folder_digest(folder)})
        record.save(folder)
    return record


def _read_index(layout: Path) -> dict[str, Any]:
    if not (layout / INDEX).is_file():
        raise InputError(f"the layout {layout} has no {INDEX}; {_SAME_KIND}")
    index = read_object(layout / INDEX, SAVE_AGAIN)
    kind = index.get("_class_name")
    if kind != SD.pipeline:
        raise InputError(f"the layout {layout} is of a {kind}; a teacher must be a {SD.pipeline}: {_SAME_KIND}")
    return index


def _kept(layout: Path, index: dict[str, Any]) -> list[str]:
    """The optional components to copy: both, or none."""
    whole = all(is_present(index, name) for name in OPTIONAL) and (layout / OPTIONAL[1]).is_dir()
    return list(OPTIONAL) if whole and weight_files(layout / OPTIONAL[0]) else []


def _write_index(layout: Path, folder: Path) -> None:
    index = _read_index(layout)
    kept = _kept(layout, index)
    for name in (*OPTIONAL, "image_encoder"):
        if name not in kept:
            index[name] = [None, None]
    if "safety_checker" not in kept:
        index["requires_safety_checker"] = False
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def tensor_shapes(file: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and type (`F16`, `F32`, `I64`, …) of each tensor of a safetensors file; raises InputError for another."""
    if not file.is_file():
        raise InputError(f"no such file: {file}")
    try:
        # NumPy is imported faster than torch, and no tensor is read.
        with safe_open(file, framework="np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict
            return {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a readable safetensors file ({error}); get it again") from error


def _is_bare(shapes: Iterable[str]) -> bool:
    """Whether the text encoder was saved without its first module's name, `text_model`."""
    names = [name.removeprefix(TEXT_PREFIX) for name in shapes if name.startswith(TEXT_PREFIX)]
    return "embeddings.token_embedding.weight" in names and not any(each.startswith("text_model.") for each in names)


def _bare_text_encoder(file: Path, layout: Path, half: bool) -> Any:
    """A text encoder whose weights have transformers' names, which diffusers cannot convert."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    with safe_open(file, "pt") as tensors:
        state = {
            f"text_model.{name.removeprefix(TEXT_PREFIX)}": tensors.get_tensor(name)
            for name in tensors.keys()  # noqa: SIM118 - not a dict
            if name.startswith(TEXT_PREFIX)
        }
    try:
        network, found = CLIPTextModel.from_pretrained(
            None,
            config=CLIPTextConfig.from_dict(read_object(layout / "text_encoder" / "config.json", SAVE_AGAIN)),
            state_dict=state,
            dtype=torch.float16 if half else torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises nearly any type
        raise _unfit("text_encoder", file, layout, error) from error
    if found["missing_keys"]:
        raise _lacks("text_encoder", file, layout)
    unused = sorted(name for name in found["unexpected_keys"] if name.split(".")[-1] != "position_ids")
    if unused:
        raise _unfit("text_encoder", file, layout, ValueError(f"nothing uses {unused[0]}"))
    return network


def _unfit(name: str, file: Path, layout: Path, error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(f"the {_NAMES[name]} of {file} does not fit the layout {layout}: {reason}; {_SAME_KIND}")


def _network(name: str, file: Path, layout: Path, half: bool) -> Any:
    """One network, converted by diffusers; the others are None, so that an error is about this one."""
    # diffusers takes seconds, and a cached folder needs no conversion.
    import torch
    from diffusers import StableDiffusionPipeline

    from sidlsg.teacher.pipeline import quiet_libraries

    quiet_libraries()
    others: dict[str, None] = dict.fromkeys((*SD.components, *OPTIONAL, "image_encoder"))
    del others[name]
    try:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(file),
            config=str(layout),
            local_files_only=True,
            dtype=torch.float16 if half else torch.float32,
            extract_ema=True,
            **others,
        )
    except NotImplementedError as error:  # a missing weight stays on the meta device
        raise _lacks(name, file, layout) from error
    except Exception as error:  # ValueError for other sizes, the library's own type for a missing part
        raise _unfit(name, file, layout, error) from error
    network = getattr(pipeline, name)
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        raise _lacks(name, file, layout)
    return network


def _lacks(name: str, file: Path, layout: Path) -> InputError:
    return InputError(
        f"{file} lacks weights of the {_NAMES[name]} that the layout {layout} describes: "
        f"the file is incomplete, or of another model; {_SAME_KIND}"
    )


def _require_all_used(unet: Any, shapes: dict[str, tuple[list[int], str]], file: Path, layout: Path) -> None:
    # A layout with fewer blocks than the file would load, and generate other images.
    given = sum(math.prod(shape) for name, (shape, _) in shapes.items() if name.startswith(UNET_PREFIX))
    used = sum(tensor.numel() for tensor in unet.state_dict().values())
    if given != used:
        raise InputError(
            f"the UNet of {file} has {given:,} numbers, and the layout {layout} describes {used:,}; {_SAME_KIND}"
        )


def checked_teacher(uri: str, sha256: str = "", layout: str = "", variant: str = "") -> tuple[Path, str]:
    """The local folder of a teacher's pipeline, and the digest of its model files if it was checked.

    A single file is converted, and the folder cached.

    Args:
        uri: of a folder, or of one `.safetensors` file with the whole model.
        sha256: the digest that the content must have; empty for no check.
        layout: for a file: the URI of a folder with the model's small files, see `convert_single_file`.
        variant: of a folder's weights, such as `fp16`; empty for the URI's own, or the standard weights.

    Raises:
        InputError: there is nothing there, the digest differs, there is no such variant, it is a pickle, or the layout
            is missing or does not fit.
    """
    path, found = resolve_with_digest(with_variant(uri, variant), sha256, folder=DIFFUSERS)
    if path.is_dir():
        if layout:
            raise InputError(
                f"a layout ({layout}) was given for {uri}, which is a folder and has its own; "
                "give the folder alone, or one safetensors file with the layout"
            )
        return path, found
    if not layout:
        raise InputError(
            f"{uri} is a single file; a teacher also needs configurations, tokenizer and scheduler: give with it, "
            "as --teacher-layout, a folder with a StableDiffusionPipeline's small files, or give a whole folder"
        )
    return _converted(path, found, resolve(layout, folder=DIFFUSERS))


def _converted(file: Path, sha256: str, layout: Path) -> tuple[Path, str]:
    wanted = conversion_of(file, layout, sha256)
    folder = cache_folder() / "teachers" / wanted.digest
    # Of a run's processes the first converts, and the others wait.
    with file_lock(folder.with_suffix(".lock")):
        found = _whole(folder)
        if not found:
            # A damaged folder, or what killed processes left.
            for left in [folder, *folder.parent.glob(f".{folder.name}.*")]:
                shutil.rmtree(left, ignore_errors=True)
            found = convert_single_file(file, layout, folder, wanted.file_sha256).folder_sha256
    return folder, found


def _whole(folder: Path) -> str:
    """The digest of a complete cached folder; empty for any other."""
    try:
        record = Conversion.load(folder)
        check_folder(folder)
        return record.folder_sha256 if folder_digest(folder) == record.folder_sha256 else ""
    except (InputError, OSError):
        return ""
