"""A student or a teacher that samples for the page, with the time that sampling took."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sidlsg.runtime.hardware import device_name
from sidlsg.studio.turns import Turns
from sidlsg.teacher.images import Images
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images, and the seconds from prompts to pixels."""

    images: Images
    """[N, H, W, 3]."""
    seconds: float


class Generator:
    """A diffusers folder on the best device; on a GPU in the family's half precision."""

    def __init__(self, folder: Path, sha256: str, turns: Turns, *, first: bool) -> None:
        """Args:
        folder: of a family's pipeline.
        sha256: the model's digest.
        turns: of the device.
        first: sample before others, which give way between two of their steps.

        Raises:
            InputError: the folder cannot be used.
        """
        half = torch.cuda.is_available()
        self.sampler = StockSampler(folder, half=half, sha256=sha256)
        self._turns, self._first, self._lent_s = turns, first, 0.0
        if not first:
            self.sampler.network.register_forward_pre_hook(self._give_way)
        self.device = device_name(self.sampler.device) + (f", {self.sampler.family.half}" if half else "")
        # The first images take longer: libraries choose kernels and get memory.
        self("", [0], Setting(steps=1, guidance_scale=0.0))

    def __call__(self, prompt: str, seeds: Sequence[int], setting: Setting) -> Sample:
        """Sample an image of the prompt for each seed.

        Raises:
            NotFiniteError: an image is not finite.
        """
        with self._turns.taken(first=self._first):
            self._lent_s, began = 0.0, time.perf_counter()
            images = self.sampler([prompt] * len(seeds), seeds, setting)
            return Sample(images=images, seconds=time.perf_counter() - began - self._lent_s)

    def _give_way(self, *_: Any) -> None:
        if self._turns.is_wanted:
            if self.sampler.device.type == "cuda":
                torch.cuda.synchronize(self.sampler.device)  # the steps before belong to this time, not to the other
            self._lent_s += self._turns.lend()

    def cut(self, prompt: str) -> tuple[int, int]:
        """How many tokens a prompt has with its start and end, and how many of them the text encoder reads.

        Where a family has several text encoders, the last one counts, which reads the most.
        """
        pipeline = self.sampler.pipeline
        found = (getattr(pipeline, name) for name in self.sampler.family.text_encoders.values())
        tokenizer = [each for each in found if each is not None][-1]
        usual = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
        longest = tokenizer.model_max_length if usual is None else min(usual.default, tokenizer.model_max_length)
        return len(tokenizer(prompt, truncation=False).input_ids), longest
