"""Where a teacher comes from: a diffusers folder, or one safetensors file that is converted once and then kept."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safetensors import SafetensorError, safe_open

from sidlsg.runtime.errors import InputError, first_line
from sidlsg.runtime.parsing import read_object
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.files import atomic_folder, refuse_foreign, refuse_inside, sha256_file, sha256_files
from sidlsg.storage.records import Record
from sidlsg.storage.uri import resolve, resolve_with_digest
from sidlsg.teacher.config import SAVE_AGAIN, TEXT_ENCODER
from sidlsg.teacher.folder import (
    COMPONENTS,
    DATA_SUFFIXES,
    DIFFUSERS,
    INDEX,
    OPTIONAL,
    PIPELINE,
    WITH_WEIGHTS,
    check_folder,
    check_vocabulary,
    folder_digest,
    is_present,
    licence_files,
    weight_files,
)

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

SUFFIX = ".safetensors"
UNET_PREFIX = "model.diffusion_model."
"""Starts the names of the UNet's weights in the file."""
TEXT_PREFIX = "cond_stage_model.transformer."
"""Starts the names of a CLIPTextModel's weights; a second generation's text encoder has names of its own."""
_PREFIXES = {"unet": UNET_PREFIX, "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
_NAMES = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
_SAME_KIND = "give the layout of the model that the file is of, such as the folder of SD 1.5 for weights of SD 1.5"


@dataclass(frozen=True, kw_only=True)
class Conversion(Record):
    """What a converted folder was made from, and what it holds."""

    FILE: ClassVar[str] = "conversion.json"
    file_sha256: str
    layout_sha256: str
    """Digest of the layout's files that were used."""
    diffusers: str
    transformers: str
    folder_sha256: str
    """Digest of the model files that were written."""


def check_single_file(file: Path) -> None:
    """Check that a file is safetensors and holds a Stable Diffusion's networks under their original names.

    Raises:
        InputError: it is a pickle, or a network is missing.
    """
    if file.suffix in (".ckpt", ".bin", ".pt", ".pth", ".pkl"):
        raise InputError(f"{file} is a pickle, which can run code when it is loaded; give the same model as {SUFFIX}")
    if file.suffix != SUFFIX:
        raise InputError(f"{file} is not a {SUFFIX} file; give a folder of a {PIPELINE}, or one {SUFFIX} file")
    shapes = _shapes(file)
    for name, prefix in _PREFIXES.items():
        if not any(each.startswith(prefix) for each in shapes):
            raise InputError(
                f"{file} holds no weight named {prefix}…, so it lacks the {_NAMES[name]} of a Stable Diffusion in one "
                "file; a part of one (a UNet, a LoRA) is no teacher: give the whole model"
            )


def layout_files(layout: Path) -> list[Path]:
    """The files of a layout that a conversion uses, sorted by component.

    A safety checker belongs to them where its weights and its feature extractor are there.

    Raises:
        InputError: the folder does not describe a `StableDiffusionPipeline`.
    """
    index = _read_index(layout)
    files = [layout / INDEX]
    for name in (*COMPONENTS, *_kept(layout, index)):
        if not (layout / name).is_dir():
            raise InputError(
                f"the layout {layout} has no {name}; it needs {', '.join(COMPONENTS)}, without weights: {_SAME_KIND}"
            )
        suffixes = DATA_SUFFIXES - {SUFFIX} if name in WITH_WEIGHTS else DATA_SUFFIXES
        # An index of shards belongs to weights that are not taken.
        found = [p for p in sorted((layout / name).iterdir()) if p.suffix in suffixes and ".index." not in p.name]
        if name in WITH_WEIGHTS and layout / name / "config.json" not in found:
            raise InputError(f"{layout / name} has no config.json; {_SAME_KIND}")
        files += found
    check_vocabulary(layout / "tokenizer")
    if not (layout / "scheduler" / "scheduler_config.json").is_file():
        raise InputError(f"{layout / 'scheduler'} has no scheduler_config.json; {_SAME_KIND}")
    return files


def conversion_of(file: Path, layout: Path, file_sha256: str = "") -> Conversion:
    """What a conversion of these inputs with the installed libraries is, its result not yet known.

    Args:
        file: the model.
        layout: its small files.
        file_sha256: the file's digest where the caller has found it; empty to compute it.

    Raises:
        InputError: the file or the layout cannot be used.
    """
    check_single_file(file)
    return Conversion(
        file_sha256=file_sha256 or sha256_file(file),
        layout_sha256=sha256_files(layout, layout_files(layout)),
        diffusers=version("diffusers"),
        transformers=version("transformers"),
        folder_sha256="",
    )


def convert_single_file(file: Path, layout: Path, output: Path, file_sha256: str = "") -> Conversion:
    """Write the diffusers folder of a single-file Stable Diffusion; nothing is downloaded.

    Weights are diffusers' own conversion; every other file is the layout's, byte for byte. Where the file holds an
    EMA of the UNet beside the UNet, the EMA is taken. Half precision stays half precision.

    Args:
        file: safetensors with weights under their original names (`model.diffusion_model.…`).
        layout: a folder with `model_index.json` and each component's small files; weights in it are not read.
        output: becomes a `StableDiffusionPipeline`'s folder.
        file_sha256: the file's digest where the caller has found it; empty to compute it.

    Returns:
        The record that was saved in `output`.

    Raises:
        InputError: an input or the output folder cannot be used, or the file does not fit the layout.
    """
    refuse_foreign(output, Conversion.FILE)
    refuse_inside(output, file=file, layout=layout)
    made_from = conversion_of(file, layout, file_sha256)
    shapes = _shapes(file)
    kinds = {kind for name, (_, kind) in shapes.items() if name.startswith(tuple(_PREFIXES.values())) and "F" in kind}
    with atomic_folder(output, Conversion.FILE) as folder:
        for source in layout_files(layout):
            target = folder / source.relative_to(layout)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
        for source in licence_files(layout):
            shutil.copyfile(source, folder / source.name)
        _write_index(layout, folder)
        for name in WITH_WEIGHTS:
            half = kinds == {"F16"}
            if name == "text_encoder" and _is_bare(shapes):
                network = _bare_text_encoder(file, layout, half)
            else:
                network = _network(name, file, layout, half)
            if name == "unet":
                _require_all_used(network, shapes, file, layout)
            network.save_pretrained(folder / name, safe_serialization=True)
            # The libraries write a configuration of their own version; the digest should not depend on it.
            shutil.copyfile(layout / name / "config.json", folder / name / "config.json")
        record = Conversion(**{**vars(made_from), "folder_sha256": folder_digest(folder)})
        record.save(folder)
    return record


def _read_index(layout: Path) -> dict[str, Any]:
    if not (layout / INDEX).is_file():
        raise InputError(f"the layout {layout} has no {INDEX}; {_SAME_KIND}")
    index = read_object(layout / INDEX, SAVE_AGAIN)
    kind = index.get("_class_name")
    if kind != PIPELINE:
        raise InputError(f"the layout {layout} is of a {kind}; a teacher must be a {PIPELINE}: {_SAME_KIND}")
    return index


def _kept(layout: Path, index: dict[str, Any]) -> list[str]:
    """The optional components that go into the folder: a safety checker with its extractor, or none of them."""
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


def _shapes(file: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and kind (`F16`, `F32`, `I64`, …) of each tensor of the file."""
    try:
        # By NumPy, which is imported sooner than torch: no tensor is read.
        with safe_open(file, framework="np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict
            return {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a readable safetensors file ({error}); get it again") from error


def _is_bare(shapes: Iterable[str]) -> bool:
    """Whether a file's text encoder is a CLIPTextModel that was saved without the name of its own first module."""
    names = [name.removeprefix(TEXT_PREFIX) for name in shapes if name.startswith(TEXT_PREFIX)]
    return "embeddings.token_embedding.weight" in names and not any(each.startswith("text_model.") for each in names)


def _bare_text_encoder(file: Path, layout: Path, half: bool) -> Any:
    """A text encoder whose weights have transformers' own names, which diffusers' conversion does not take."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    # The file has the other networks as well, which are not read.
    with safe_open(file, "pt") as tensors:
        state = {
            f"text_model.{name.removeprefix(TEXT_PREFIX)}": tensors.get_tensor(name)
            for name in tensors.keys()  # noqa: SIM118  # it is no mapping
            if name.startswith(TEXT_PREFIX)
        }
    try:
        network, found = CLIPTextModel.from_pretrained(
            None,
            config=CLIPTextConfig.from_dict(read_object(layout / TEXT_ENCODER, SAVE_AGAIN)),
            state_dict=state,
            dtype=torch.float16 if half else torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises nearly anything
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
    """One network by diffusers' own conversion. The others are None, so that an error is about this one."""
    # Imported here: diffusers takes seconds, and a file that was converted before needs no conversion.
    import torch
    from diffusers import StableDiffusionPipeline

    from sidlsg.teacher.pipeline import quiet_libraries

    quiet_libraries()
    others: dict[str, None] = dict.fromkeys((*COMPONENTS, *OPTIONAL, "image_encoder"))
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
    except NotImplementedError as error:  # what was not in the file has no data
        raise _lacks(name, file, layout) from error
    except Exception as error:  # sizes that differ are a ValueError, a missing part is a type of the library's own
        raise _unfit(name, file, layout, error) from error
    network = getattr(pipeline, name)
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        raise _lacks(name, file, layout)
    return network


def _lacks(name: str, file: Path, layout: Path) -> InputError:
    return InputError(
        f"{file} lacks weights of the {_NAMES[name]} that the layout {layout} describes: "
        f"the file is not whole, or of another model; {_SAME_KIND}"
    )


def _require_all_used(unet: Any, shapes: dict[str, tuple[list[int], str]], file: Path, layout: Path) -> None:
    # A layout with fewer blocks than the file has would load, and draw something else.
    given = sum(math.prod(shape) for name, (shape, _) in shapes.items() if name.startswith(UNET_PREFIX))
    used = sum(tensor.numel() for tensor in unet.state_dict().values())
    if given != used:
        raise InputError(
            f"the UNet of {file} has {given:,} numbers, and the layout {layout} describes {used:,}; {_SAME_KIND}"
        )


def teacher_folder(place: str, sha256: str = "", layout: str = "") -> Path:
    """The folder of a teacher's `StableDiffusionPipeline`.

    Args:
        place: a folder, or one `.safetensors` file with the whole model.
        sha256: what the place's digest must be; empty for no check.
        layout: for a file: the place of a folder with the model's small files, see `convert_single_file`.

    Returns:
        The place's own folder, or the one that its file was converted to, now or earlier.

    Raises:
        InputError: there is nothing there, its content is another, it is a pickle, or the layout is missing or does
            not fit.
    """
    return checked_teacher(place, sha256, layout)[0]


def checked_teacher(place: str, sha256: str = "", layout: str = "") -> tuple[Path, str]:
    """`teacher_folder`, and the digest that its model files were found to have; empty where nothing needed it."""
    path, found = resolve_with_digest(place, sha256, folder=DIFFUSERS)
    if path.is_dir():
        if layout:
            raise InputError(
                f"a layout ({layout}) was given for {place}, which is a folder and has its own; "
                "give the folder alone, or one safetensors file with the layout"
            )
        return path, found
    if not layout:
        raise InputError(
            f"{place} is a single file; a teacher also needs configurations, tokenizer and scheduler: give with it, "
            "as --teacher-layout, a folder with a StableDiffusionPipeline's small files, or give a whole folder"
        )
    return _converted(path, found, resolve(layout, folder=DIFFUSERS))


def unet_of(place: str, sha256: str = "") -> UNet2DConditionModel:
    """The UNet of a teacher's or a student's folder, in float32, for a generator that starts from it.

    Args:
        place: a folder of a `StableDiffusionPipeline`.
        sha256: what the place's digest must be; empty for no check.

    Raises:
        InputError: there is no such folder, its content is another, or it cannot be loaded.
    """
    # Imported here: diffusers takes seconds, and a folder is found without it.
    from sidlsg.teacher.pipeline import load_pipeline

    return load_pipeline(resolve(place, sha256, folder=DIFFUSERS)).unet


def _converted(file: Path, sha256: str, layout: Path) -> tuple[Path, str]:
    wanted = conversion_of(file, layout, sha256)
    folder = cache_folder() / "teachers" / wanted.digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The processes of one run ask at the same time: the first converts, the others wait for it.
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _whole(folder)
        if not found:
            # Under the lock, what a killed process left, and a damaged copy, are nobody's.
            for left in [folder, *folder.parent.glob(f".{folder.name}.*")]:
                shutil.rmtree(left, ignore_errors=True)
            found = convert_single_file(file, layout, folder, wanted.file_sha256).folder_sha256
    return folder, found


def _whole(folder: Path) -> str:
    """The digest of a kept folder that still holds what was written; else empty."""
    try:
        record = Conversion.load(folder)
        check_folder(folder)
        return record.folder_sha256 if folder_digest(folder) == record.folder_sha256 else ""
    except (InputError, OSError):
        return ""
