"""Which examples are used: those with a caption that is not held out and an image that is large enough."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.phases.exact_duplicates import near_held_out, same_as_held_out
from sidlsg.prompts.rules import HeldOutRule
from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.keys import same_words_keys
from sidlsg.real_images.examples import Example
from sidlsg.real_images.pixels import SmallImageError, UnusableImageError, square
from sidlsg.runtime.provenance import printable

STEPS = {
    "image": "are missing or cannot be decoded",
    "caption": "have no caption",
    "held_out": "have a held-out caption",
    "held_out_near": "have a caption that is like a held-out one",
    "size": "are smaller than the teacher's resolution",
}
"""The steps in order, and what is wrong with the images that they drop."""
AT_ONCE = 64
"""Examples in memory, whose captions are compared with the held-out ones together."""
RULE = HeldOutRule()
"""How captions are compared, as by the default rules of curation."""


@dataclass(frozen=True, kw_only=True)
class Used:
    """An example that is used."""

    pixels: NDArray[np.uint8]
    """[size, size, 3]."""
    caption: str
    """Cleaned as prompts are."""
    digest: str
    """SHA-256 of the encoded image and the caption."""
    after: tuple[int, int]
    """The position of the next example."""
    read: int
    """Examples read up to this one."""
    dropped: dict[str, int]
    """Of these, the dropped ones by step."""


class Selection:
    """The steps from examples to those that are used; counts, and keeps the first example that each step drops."""

    def __init__(
        self, held_out: tuple[str, ...], size: int, read: int = 0, dropped: dict[str, int] | None = None
    ) -> None:
        """`read` and `dropped` are the counts so far, of a call that resumes."""
        self.held_out, self.size, self.read = held_out, size, read
        self.dropped = dict.fromkeys(STEPS, 0) | (dropped or {})
        self.first: dict[str, str] = {}

    def __call__(self, examples: Iterable[Example]) -> Iterator[Used]:
        """The examples that are used, in order; the counts are those up to the newest one."""
        rest = iter(examples)
        while some := list(islice(rest, AT_ONCE)):
            captions = clean_all(pl.Series([each.caption for each in some], dtype=pl.String))
            words = same_words_keys(captions)
            same, near = [False] * len(some), [None] * len(some)
            if self.held_out:
                same = same_as_held_out(captions, words, self.held_out, RULE).fill_null(False).to_list()
                near = near_held_out(words.fill_null(""), self.held_out, RULE)["caption"].to_list()
            for example, caption, is_same, like in zip(some, captions.to_list(), same, near, strict=True):
                self.read += 1
                used = self._used(example, caption or "", is_same, like is not None)
                if used is not None:
                    yield used

    def _used(self, example: Example, caption: str, is_same: bool, is_near: bool) -> Used | None:
        step, why, pixels = "", "", None
        if example.image is None:
            step = "image"
        elif not caption:
            step = "caption"
        elif is_same or is_near:
            step, why = "held_out" if is_same else "held_out_near", caption
        else:
            try:
                pixels = square(example.image, self.size)
            except UnusableImageError as error:
                step, why = "size" if isinstance(error, SmallImageError) else "image", str(error)
        if example.image is None or pixels is None:
            self.dropped[step] += 1
            self.first.setdefault(step, f"{example.name}{f': {why}' if why else ''}")
            return None
        return Used(
            pixels=pixels,
            caption=caption,
            digest=hashlib.sha256(hashlib.sha256(example.image).digest() + caption.encode()).hexdigest(),
            after=example.after,
            read=self.read,
            dropped=dict(self.dropped),
        )

    def report(self, report: Callable[[str], None]) -> None:
        """Report a line for each step that dropped images in this call, with the first one."""
        for step, example in self.first.items():
            count = self.dropped[step]
            report(printable(f"left out {count:,} of {self.read:,} images, which {STEPS[step]} ({example})"))
