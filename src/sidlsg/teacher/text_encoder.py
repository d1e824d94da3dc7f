"""Prompts to text states, encoded once where memory allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ROWS = 16
"""Prompts that the text encoder sees at once, always: libraries choose their kernels by shape, so a prompt's state
would else depend in its last bits on how many others were encoded with it, and a continued run on what it remembers."""


class PromptEncoder:
    """Encodes prompts as `StableDiffusionPipeline` does, and remembers the most recent ones.

    A prompt's state does not depend on the prompts that it is encoded with. The empty prompt is encoded once.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, device: torch.device | str = "cpu", cache_bytes: int = 2**28
    ) -> None:
        """Args:
        tokenizer: a `CLIPTokenizer`.
        text_encoder: a `CLIPTextModel`, frozen.
        device: where states are delivered and kept.
        cache_bytes: memory for the states that are kept.
        """
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.device = torch.device(device)
        self._states: OrderedDict[str, Tensor] = OrderedDict()
        self.uncond = self.encode([""])
        """[1, L, D]: the empty prompt."""
        self.cache = cache_bytes // self.uncond.nbytes
        """How many prompts' states are kept."""

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D] states of prompts, on `device`."""
        missing = sorted({p for p in prompts if p and p not in self._states})
        # Clones: a slice would keep its whole batch in memory for as long as one prompt of it is kept.
        encoded = [state.clone() for state in self.encode(missing)] if missing else []
        fresh = dict(zip(missing, encoded, strict=True))
        states = []
        for prompt in prompts:
            state = self.uncond[0] if not prompt else fresh.get(prompt)
            if state is None:
                self._states.move_to_end(prompt)
                state = self._states[prompt]
            states.append(state)
        self._states.update(fresh)
        while len(self._states) > self.cache:
            self._states.popitem(last=False)
        return torch.stack(states)

    def offload(self) -> None:
        """Move the text encoder into the host's memory; states are still delivered on `device`."""
        self.text_encoder.to("cpu")

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D] states of at least one prompt, on `device`; nothing is remembered."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        # As the stock pipeline: a mask only where the text model's config asks for one.
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        place = self.text_encoder.device
        parts = []
        # States are conditions of every network: they stay exact where a caller trains in half precision.
        with torch.autocast(place.type, enabled=False):
            for start in range(0, len(prompts), ROWS):
                count = min(ROWS, len(prompts) - start)
                ids = _padded(tokens.input_ids[start : start + ROWS]).to(place)
                mask = _padded(tokens.attention_mask[start : start + ROWS]).to(place) if masked else None
                states: Tensor = self.text_encoder(ids, attention_mask=mask).last_hidden_state
                parts.append(states[:count].to(self.device))
        return torch.cat(parts)


def _padded(rows: Tensor) -> Tensor:
    """`ROWS` rows: the last one again and again where some are missing."""
    return torch.cat([rows, rows[-1:].expand(ROWS - len(rows), -1)])
