"""The shapes judge's file, checked by its header alone: a run is refused early, without torch."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import JUDGE, resolve


def check_judge(path: Path) -> None:
    """Check that a file holds tensors of the names and shapes of the bundled judge, as `load_judge` needs them.

    Raises:
        InputError: the file is missing, damaged, or holds another network.
    """
    if _shapes(path) != _shapes(resolve(JUDGE)):
        raise InputError(f"{path} holds another network than the judge; give a file made by `sidlsg teach`")


def _shapes(path: Path) -> dict[str, list[int]]:
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        # By NumPy, which is imported sooner than torch: no tensor is read.
        with safe_open(os.fspath(path), framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); delete or replace it") from error
