"""The package with edited sources, imported anew: what a new image brings."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import sidlsg

BESIDE = ("assets", "components", "pipelines")
"""What lies outside src/ in a checkout."""


@contextmanager
def edited(folder: Path, edits: Mapping[str, Callable[[str], str]]) -> Iterator[None]:
    """While the block runs, imports of `sidlsg` give a copy with edited files; then they give the old modules again.

    Its modules are new ones, its classes too. A process of its own would spend ten seconds on importing torch and
    diffusers.

    Args:
        folder: receives the copy.
        edits: from a file's text to its new one, by path in the package.
    """
    copy = folder / "sidlsg"
    shutil.copytree(Path(sidlsg.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        if not (copy / name).exists():
            (copy / name).symlink_to(str(files(f"sidlsg.{name}")))
    for name, edit in edits.items():
        before = (copy / name).read_text()
        (copy / name).write_text(edit(before))
        assert (copy / name).read_text() != before
    kept = _forget()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        assert Path(importlib.import_module("sidlsg").__path__[0]) == copy
        yield
    finally:
        sys.path.remove(str(folder))
        _forget()
        sys.modules.update(kept)


def _forget() -> dict[str, object]:
    names = [name for name in sys.modules if name.partition(".")[0] == "sidlsg"]
    return {name: sys.modules.pop(name) for name in names}


def comment(text: str) -> str:
    """An edit that changes no result."""
    return text + "# A comment.\n"
