"""Shards of a set: safetensors files, whose tensors' rows are read by index."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import FileRef

BLOCK = 2048
"""Rows in a shard, which training reads one after the other; 242 MB of Stable Diffusion 1.5's text embeddings in
float16, and 67 MB of its latents."""
MAPPED = 16
"""Shards that are kept mapped; training reads from one or two at a time."""


def shard_path(folder: Path, number: int) -> Path:
    """The shard of a block."""
    return folder / "shards" / f"{number:05}.safetensors"


@dataclass(frozen=True, kw_only=True)
class ShardFormat:
    """What a set's shards hold, and how messages call it."""

    record: str
    """File name of the set's record."""
    what: str
    """The content in words, such as `text embeddings`."""
    stage: str
    """What writes it, such as `the encode stage`."""


Shapes = Mapping[str, tuple[int, ...]]
"""The shape of a row by tensor name."""


def map_tensors(path: Path, shapes: Shapes, count: int, dtype: torch.dtype, kind: ShardFormat) -> dict[str, Tensor]:
    """The tensors of a file, whose rows are read from the disk on use.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} holds no {kind.what} ({error}); run {kind.stage} again") from error
    for name, tensor in tensors.items():
        wanted = (count, *shapes[name])
        if tensor.shape != wanted or tensor.dtype != dtype:
            raise InputError(
                f"{path} holds {tuple(tensor.shape)} {tensor.dtype}, but its record says {wanted} {dtype}; "
                f"run {kind.stage} again"
            )
    return tensors


@dataclass
class MappedShards:
    """The rows of a set by index.

    A shard's digest is checked on first use: the set may be hundreds of gigabytes, and the check brings the shard,
    whose rows training uses in random order, into the page cache.
    """

    folder: Path
    refs: Sequence[FileRef]
    count: int
    shapes: Shapes
    dtype: torch.dtype
    kind: ShardFormat
    _checked: set[FileRef] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._shard = lru_cache(MAPPED)(self._open_shard)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One row; raises InputError where its shard is missing, changed or damaged."""
        return {name: rows[index % BLOCK] for name, rows in self._shard(index // BLOCK).items()}

    def _open_shard(self, number: int) -> dict[str, Tensor]:
        return self.open(self.refs[number], min(BLOCK, self.count - number * BLOCK))

    def open(self, ref: FileRef, count: int) -> dict[str, Tensor]:
        """The rows of one of the set's files, checked; raises as `__getitem__`."""
        if "://" in ref.path:
            raise InputError(f"{ref.path} of {self.folder} is not on this machine; copy the whole set here first")
        path = self.folder / ref.path
        if not path.is_file():
            raise InputError(f"{path} is missing, though {self.kind.record} names it; run {self.kind.stage} again")
        if ref not in self._checked and sha256_file(path) != ref.sha256:
            raise InputError(
                f"{path} differs from what {self.kind.record} says: it was changed or damaged; "
                f"run {self.kind.stage} again"
            )
        self._checked.add(ref)
        return map_tensors(path, self.shapes, count, self.dtype, self.kind)
