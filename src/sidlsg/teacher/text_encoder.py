"""Prompts to conditioning, with a cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from sidlsg.teacher.conditioning import Conditioning, joined, mapped, nbytes
from sidlsg.teacher.families.family import Configs, Family

ROWS = 16
"""The fixed batch size of the text encoders: libraries choose kernels by shape, so that the last bits of an embedding
would depend on the batch, and those of a resumed run on its cache."""


class PromptEncoder:
    """Encodes prompts as the stock pipeline does, independently of each other, and caches the latest ones."""

    def __init__(
        self,
        family: Family,
        pipeline: Any,
        configs: Configs,
        device: torch.device | str = "cpu",
        cache_bytes: int = 2**28,
    ) -> None:
        """Args:
        family: the pipeline's.
        pipeline: the stock one, with frozen text encoders; it needs no other networks.
        configs: of its folder's components.
        device: of the embeddings, also cached ones.
        cache_bytes: size of the cache.
        """
        self.family, self.pipeline, self.configs = family, pipeline, configs
        found = [getattr(pipeline, name) for name in family.text_encoders]
        self.text_encoders = [each for each in found if each is not None]
        self.device = torch.device(device)
        self._cached: OrderedDict[str, Conditioning] = OrderedDict()
        self.uncond = self.encode([""])
        """[1, …]: the empty prompt."""
        self.cache = cache_bytes // nbytes(self.uncond)
        """Number of prompts in the cache."""

    def __call__(self, prompts: Sequence[str]) -> Conditioning:
        """[B, …] conditioning of prompts, on `device`."""
        missing = sorted({p for p in prompts if p and p not in self._cached})
        fresh: dict[str, Conditioning] = {}
        if missing:
            encoded = self.encode(missing)
            for i, prompt in enumerate(missing):
                # A clone, because a slice would keep its whole batch in memory.
                fresh[prompt] = mapped(lambda each, i=i: each[i].clone(), encoded)
        found = []
        for prompt in prompts:
            if not prompt:
                found.append(mapped(lambda each: each[0], self.uncond))
            elif prompt in fresh:
                found.append(fresh[prompt])
            else:
                self._cached.move_to_end(prompt)
                found.append(self._cached[prompt])
        self._cached.update(fresh)
        while len(self._cached) > self.cache:
            self._cached.popitem(last=False)
        return mapped(lambda *each: torch.stack(each), *found)

    @property
    def parameters(self) -> int:
        """Number of the text encoders' parameters."""
        return sum(each.numel() for encoder in self.text_encoders for each in encoder.parameters())

    def offload(self) -> None:
        """Move the text encoders to the CPU; embeddings stay on `device`."""
        for encoder in self.text_encoders:
            encoder.to("cpu")

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """[B, …] conditioning of at least one prompt, on `device`, without the cache."""
        device, parts = self.text_encoders[0].device, []
        # In full precision even if the caller trains in half precision.
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(prompts), ROWS):
                part = list(prompts[start : start + ROWS])
                padded = part + part[-1:] * (ROWS - len(part))
                encoded = self.family.encode(self.pipeline, padded, device, self.configs)
                parts.append(mapped(lambda each: each.to(self.device), encoded))
        return mapped(lambda each: each[: len(prompts)], joined(*parts))
