"""Which trainings a store of checkpoints holds, and whether each is finished."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from sidlsg.distil.run_identity import ITERATION, MANIFEST, Manifest
from sidlsg.storage.store import FolderStore, Store, is_hidden

_CHECKPOINT = re.compile(rf"(?:(.+)/)?({ITERATION})/{re.escape(MANIFEST)}")
_PLACES = ("", "*/", "checkpoints/*/")
"""Where a folder may have checkpoints: its own, those of its trainings, and those of a run."""


@dataclass(frozen=True, kw_only=True)
class StoredTraining:
    """The checkpoints of one training."""

    name: str
    """The folder below the store; empty for the store itself."""
    iteration: int
    """Of the newest checkpoint."""
    iterations: int
    """That the recipe asks for."""
    objects: tuple[str, ...]
    """All names in the store that belong to it."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.iteration >= self.iterations


def stored_trainings(store: Store) -> list[StoredTraining]:
    """Every training in a store, by name; a checkpoint whose manifest is damaged counts as one of iteration 0.

    Of a folder on disk, only that of a run, of its checkpoints or of one training counts.
    """
    names = _names(store)
    manifests: dict[str, dict[int, str]] = defaultdict(dict)
    for name in names:
        if match := _CHECKPOINT.fullmatch(name):
            manifests[match[1] or ""][int(match[2])] = name
    found = []
    for folder, checkpoints in sorted(manifests.items()):
        newest = max(checkpoints)
        try:
            manifest = Manifest.from_json(store.read(checkpoints[newest]))
            iteration, iterations = manifest.iteration, int(manifest.run.parts["iterations"])
        except (ValueError, KeyError):
            iteration, iterations = 0, 1
        own = re.compile(rf"{re.escape(folder)}{'/' if folder else ''}{ITERATION}/[^/]+")
        found.append(
            StoredTraining(
                name=folder,
                iteration=iteration,
                iterations=iterations,
                objects=tuple(name for name in names if own.fullmatch(name)),
            )
        )
    return found


def _names(store: Store) -> list[str]:
    if not isinstance(store, FolderStore):
        return store.names()
    # No walk: the folder may be a home or the root.
    found = (path for place in _PLACES for path in store.folder.glob(f"{place}{'[0-9]' * 9}/*") if path.is_file())
    return sorted(name for path in found if not is_hidden(name := path.relative_to(store.folder).as_posix()))
