"""Prompts to text states, encoded once where memory allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class PromptEncoder:
    """Encodes prompts as `StableDiffusionPipeline` does, and remembers the most recent ones.

    The empty prompt is encoded once.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, device: torch.device | str = "cpu", cache: int = 4096
    ) -> None:
        """Args:
        tokenizer: a `CLIPTokenizer`.
        text_encoder: a `CLIPTextModel`, frozen.
        device: where states are made and kept.
        cache: how many prompts' states to keep.
        """
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.device = torch.device(device)
        self.cache = cache
        self._states: OrderedDict[str, Tensor] = OrderedDict()
        self.uncond = self._encode([""])
        """[1, L, D]: the empty prompt."""

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D] states of prompts."""
        missing = sorted({p for p in prompts if p and p not in self._states})
        # Clones: a slice would keep its whole batch in memory for as long as one prompt of it is kept.
        encoded = [state.clone() for state in self._encode(missing)] if missing else []
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

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        # As the stock pipeline: a mask only where the text model's config asks for one.
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if masked else None
        states: Tensor = self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask).last_hidden_state
        return states
