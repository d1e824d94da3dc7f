"""Puts a run's results where the user looks for them, out of the folders that the stages wrote to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from sidlsg.storage.files import atomic_folder, atomic_write


def publish_folder(source: Path, target: Path, marker: str) -> None:
    """Replace a result folder by another, at once; the files take no space twice where links work.

    Args:
        source: what a stage wrote.
        target: the folder in the run folder.
        marker: the file name of its record.

    Raises:
        InputError: `target` holds something else.
    """
    with atomic_folder(target, marker) as folder:
        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)


def publish_file(source: Path, target: Path) -> None:
    """Replace a result file by another, at once."""
    atomic_write(target, source.read_bytes())


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copy2(source, target)
    return target


def prune(pipeline_root: Path, cache_root: Path) -> None:
    """Remove the outputs of tasks that no cache entry speaks of: nothing will read them again.

    Args:
        pipeline_root: holds `<run>/<task>/`.
        cache_root: holds one JSON file an entry, with the places of artifacts in it.
    """
    known = "".join(entry.read_text() for entry in cache_root.glob("*.json"))
    for run in (path for path in pipeline_root.iterdir() if path.is_dir()):
        for task in run.iterdir():
            # As JSON spells it, where a path has characters outside ASCII.
            if json.dumps(f"{task}{os.sep}")[1:-1] not in known:
                shutil.rmtree(task, ignore_errors=True)
        with contextlib.suppress(OSError):
            run.rmdir()
