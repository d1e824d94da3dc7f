"""Where a teacher comes from: a diffusers folder, or one safetensors file that is converted once and then kept."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sidlsg.runtime.errors import InputError
from sidlsg.storage.cache import cache_folder
from sidlsg.storage.uri import resolve, resolve_checked
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.single_file import Conversion, conversion_of, convert_single_file

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


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
    path, found = resolve_checked(place, sha256)
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
    return _converted(path, found, resolve(layout))


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

    return load_pipeline(resolve(place, sha256)).unet


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
