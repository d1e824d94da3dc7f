"""Where a stage's outside inputs lie: a bundled name or a local path, and whether it holds what was promised."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.storage import sha256_file
from sidlsg.teacher.folder import check_folder, folder_digest

BUNDLED = "bundled:"
"""Starts the name of something inside the package."""
PROMPTS = f"{BUNDLED}prompts/prompts.parquet"
HELD_OUT = f"{BUNDLED}prompts/held_out.txt"
TEACHER = f"{BUNDLED}tiny-sd"
JUDGE = f"{BUNDLED}judge/judge.safetensors"


def resolve(place: str, sha256: str = "") -> Path:
    """Find a file or a diffusers folder, and check its content where a digest is given.

    Args:
        place: `bundled:NAME` for what the package brings, else a local path.
        sha256: what `place_digest` must be; empty for no check.

    Raises:
        InputError: there is nothing there, the place is of another kind, or its content is another.
    """
    path = _bundled(place.removeprefix(BUNDLED)) if place.startswith(BUNDLED) else _local(place)
    if sha256:
        found = _digest(path)
        if found != sha256:
            raise InputError(
                f"{place} has SHA-256 {found}, but {sha256} was given: it was changed, or it is another; "
                "give the digest of this content, or give nothing to take it as it is"
            )
    return path


def place_digest(place: str) -> str:
    """SHA-256 of a file's content, or of a diffusers folder's model files.

    Raises:
        InputError: there is nothing there, or it is a folder of another kind.
    """
    return _digest(resolve(place))


def _digest(path: Path) -> str:
    if path.is_dir():
        check_folder(path)
        return folder_digest(path)
    try:
        return sha256_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


def _bundled(name: str) -> Path:
    root = Path(str(files("sidlsg.assets"))).resolve()
    path = (root / name).resolve()
    if path == root or not path.is_relative_to(root) or not path.exists():
        names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("_"))
        raise InputError(
            f"nothing bundled is named {name!r}; the package brings the folders: {', '.join(names)}; "
            "give one of them, a file in it, or a local path"
        )
    return path


def _local(place: str) -> Path:
    if not place:
        raise InputError(f"an input's place is empty; give a local path or {BUNDLED}NAME")
    if place.startswith("s3://"):
        raise InputError(f"{place} is on S3, which stages do not read yet; copy the files and give the local path")
    if "://" in place:
        raise InputError(f"{place} is an address; give a local path or {BUNDLED}NAME")
    path = Path(place).expanduser().absolute()
    if not path.exists():
        raise InputError(f"there is nothing at {path}; give a local path that exists, or {BUNDLED}NAME")
    return path
