"""Prompts to text embeddings, with a cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ROWS = 16
"""The fixed batch size of the text encoder: libraries choose kernels by shape, so that the last bits of an embedding
would depend on the batch, and those of a resumed run on its cache."""


class PromptEncoder:
    """Encodes prompts as `StableDiffusionPipeline` does, independently of each other, and caches the latest ones."""

    def __init__(
        self, tokenizer: Any, text_encoder: Any, device: torch.device | str = "cpu", cache_bytes: int = 2**28
    ) -> None:
        """Args:
        tokenizer: a `CLIPTokenizer`.
        text_encoder: a `CLIPTextModel`, frozen.
        device: of the embeddings, also cached ones.
        cache_bytes: size of the cache.
        """
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.device = torch.device(device)
        self._cached: OrderedDict[str, Tensor] = OrderedDict()
        self.uncond = self.encode([""])
        """[1, L, D]: the empty prompt."""
        self.cache = cache_bytes // self.uncond.nbytes
        """Number of prompts in the cache."""

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D] embeddings of prompts, on `device`."""
        missing = sorted({p for p in prompts if p and p not in self._cached})
        # Clones, because a slice would keep its whole batch in memory.
        encoded = [each.clone() for each in self.encode(missing)] if missing else []
        fresh = dict(zip(missing, encoded, strict=True))
        found = []
        for prompt in prompts:
            if not prompt:
                found.append(self.uncond[0])
            elif prompt in fresh:
                found.append(fresh[prompt])
            else:
                self._cached.move_to_end(prompt)
                found.append(self._cached[prompt])
        self._cached.update(fresh)
        while len(self._cached) > self.cache:
            self._cached.popitem(last=False)
        return torch.stack(found)

    def offload(self) -> None:
        """Move the text encoder to the CPU; embeddings stay on `device`."""
        self.text_encoder.to("cpu")

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D] embeddings of at least one prompt, on `device`, without the cache."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        # As the stock pipeline: a mask only if the text encoder's config asks for one.
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        device = self.text_encoder.device
        parts = []
        # In full precision even if the caller trains in half precision.
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(prompts), ROWS):
                count = min(ROWS, len(prompts) - start)
                ids = _padded(tokens.input_ids[start : start + ROWS]).to(device)
                mask = _padded(tokens.attention_mask[start : start + ROWS]).to(device) if masked else None
                embeddings: Tensor = self.text_encoder(ids, attention_mask=mask).last_hidden_state
                parts.append(embeddings[:count].to(self.device))
        return torch.cat(parts)


def _padded(rows: Tensor) -> Tensor:
    """`ROWS` rows, filled up with the last one."""
    return torch.cat([rows, rows[-1:].expand(ROWS - len(rows), -1)])
