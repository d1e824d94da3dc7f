"""The record of a set of real images, which `adversarial` recipes train with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import NonNegativeInt

from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import FileRef, FunnelStep, Record


@dataclass(frozen=True, kw_only=True)
class RealImageSet(Record):
    """Latents of captioned real images, with their captions as a PromptSet and the captions' EmbeddingSet."""

    FILE: ClassVar[str] = "real_image_set.json"
    CAPTIONS: ClassVar[str] = "captions"
    """The folder of the captions' PromptSet, in the order of the latents."""
    EMBEDDINGS: ClassVar[str] = "embeddings"
    """The folder of their EmbeddingSet."""
    source: str
    """URI of the images, as given."""
    source_sha256: str
    """Of the images that were used and their captions, in order, whatever files hold them."""
    licence: str = ""
    """The terms of the images' use, as the user states them; empty if not stated."""
    vae_sha256: str
    captions_sha256: str
    resolution: int
    """Pixels on each side."""
    count: NonNegativeInt
    shape: tuple[int, int, int]
    """(C, H, W) of an image's latents, which are in float16."""
    shards: tuple[FileRef, ...]
    """One a block of images."""
    funnel: tuple[FunnelStep, ...]
    """How many images each step let through."""

    @property
    def content_sha256(self) -> str:
        """SHA-256 of what training reads: latents and captions, whatever their source's URI and licence."""
        return sha256_bytes("\n".join([self.captions_sha256, *(ref.sha256 for ref in self.shards)]).encode())

    @property
    def summary(self) -> str:
        """The set in words, for cards and tags."""
        return (
            f"{self.count:,} from {self.source} (SHA-256 {self.source_sha256}), "
            f"{f'licence: {self.licence}' if self.licence else 'licence not stated'}"
        )
