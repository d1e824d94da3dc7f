"""Text states for training: read from the shards of an EmbeddingSet, or made when they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import EmbeddingSet, FileRef
from sidlsg.teacher.blocks import BLOCK
from sidlsg.teacher.shards import DTYPES, map_states
from sidlsg.teacher.text_encoder import PromptEncoder

TextStates = Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor]]
"""Prompt indices and whether the empty prompt takes their place, to (cond [B, L, D], uncond [1, L, D]), float32."""

MAPPED = 16
"""Shards that are kept mapped; training reads from one or two at a time."""


class EmbeddingReader:
    """Reads states by prompt index; the files stay on the disk, and the system's page cache holds what was used.

    A shard is checked against its digest when it is first used: the whole set may be hundreds of gigabytes, and the
    check brings the shard, whose rows training is about to use in random order, into the page cache.
    """

    def __init__(self, folder: Path, device: torch.device | str, dtype: str) -> None:
        """Args:
        folder: of an EmbeddingSet with shards.
        device: where states are delivered.
        dtype: `float16` or `float32`: what states are rounded to; shards may hold more than that, not less.

        Raises:
            InputError: there is no such set, it has no shards or not as many as its prompts need, it holds less
                than `dtype`, or the empty prompt's file is missing or damaged.
        """
        self.folder = folder
        self.record = EmbeddingSet.load(folder)
        self.device = torch.device(device)
        needed = -(-self.record.count // BLOCK)
        if self.record.uncond is None or len(self.record.shards) != needed:
            raise InputError(
                f"{folder} names {len(self.record.shards)} shards, but its {self.record.count:,} prompts have "
                f"{needed}; run the encode stage again, with a larger budget if it wrote none"
            )
        if self.record.dtype not in DTYPES:
            raise InputError(f"{folder} holds states in {self.record.dtype!r}; allowed: {', '.join(DTYPES)}")
        self._held, self._dtype = DTYPES[self.record.dtype], DTYPES[dtype]
        if self._held.itemsize < self._dtype.itemsize:
            raise InputError(
                f"{folder} holds states in {self.record.dtype}, but the recipe's text_states is {dtype}; "
                f"encode with dtype {dtype}, or set text_states to {self.record.dtype}"
            )
        self._checked: set[int] = set()
        self._mapped: OrderedDict[int, Tensor] = OrderedDict()
        self._empty = self._open(self.record.uncond, 1)[0].to(self._dtype, copy=True)
        self.uncond = self._empty[None].to(self.device, torch.float32)
        """[1, L, D]: the empty prompt."""

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """(cond [B, L, D], uncond [1, L, D]) in float32 on the device.

        Raises:
            InputError: a shard is missing, changed or damaged.
        """
        # From page-locked memory the copy goes on while the host works; each call has a buffer of its own, as rows of
        # the batch before may still be on their way. Rows are rounded as they are put into it.
        on_gpu = self.device.type == "cuda"
        rows = torch.empty((len(indices), *self.record.shape), dtype=self._dtype, pin_memory=on_gpu)
        for place, (index, empty) in enumerate(zip(indices, replaced, strict=True)):
            rows[place] = self._empty if empty else self._shard(index // BLOCK)[index % BLOCK]
        return rows.to(self.device, non_blocking=on_gpu).to(torch.float32), self.uncond

    def _shard(self, number: int) -> Tensor:
        if number in self._mapped:
            self._mapped.move_to_end(number)
            return self._mapped[number]
        ref = self.record.shards[number]
        count = min(BLOCK, self.record.count - number * BLOCK)
        states = self._open(ref, count, checked=number in self._checked)
        self._checked.add(number)
        self._mapped[number] = states
        if len(self._mapped) > MAPPED:
            self._mapped.popitem(last=False)
        return states

    def _open(self, ref: FileRef, count: int, checked: bool = False) -> Tensor:
        if "://" in ref.path:
            raise InputError(f"{ref.path} of {self.folder} is not on this machine; copy the whole set here first")
        path = self.folder / ref.path
        if not path.is_file():
            raise InputError(f"{path} is missing, though {EmbeddingSet.FILE} names it; run the encode stage again")
        if not checked and sha256_file(path) != ref.sha256:
            raise InputError(
                f"{path} differs from what {EmbeddingSet.FILE} says: it was changed or damaged; "
                "run the encode stage again"
            )
        return map_states(path, (count, *self.record.shape), self._held)


class OnTheFly:
    """Makes the same states with the text encoder, which stays in memory; the empty prompt's are made once."""

    def __init__(self, encoder: PromptEncoder, texts: Sequence[str], dtype: str) -> None:
        """Args:
        encoder: of the teacher.
        texts: the prompt set, in its order.
        dtype: `float16` or `float32`: what states are rounded to, as shards of that type hold them.
        """
        self.encoder, self.texts = encoder, texts
        self._dtype = DTYPES[dtype]
        self.uncond = self._rounded(encoder.uncond)
        """[1, L, D]: the empty prompt."""

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """(cond [B, L, D], uncond [1, L, D]) in float32 on the encoder's device."""
        texts = ["" if empty else self.texts[index] for index, empty in zip(indices, replaced, strict=True)]
        return self._rounded(self.encoder(texts)), self.uncond

    def _rounded(self, states: Tensor) -> Tensor:
        return states.to(self._dtype).to(torch.float32)
