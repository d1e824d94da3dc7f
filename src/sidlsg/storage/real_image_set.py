"""The record of a set of real images, which `adversarial` recipes train with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import NonNegativeInt

from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import LINEAGE, FileRef, FunnelStep, Record, Student


@dataclass(frozen=True, kw_only=True)
class RealImageSet(Record):
    """Latents of captioned real images, with their captions as a PromptSet and the captions' EmbeddingSet."""

    FILE: ClassVar[str] = "real_image_set.json"
    FOLDER: ClassVar[str] = "real_images"
    """The set's folder beside a prompt set's text embeddings."""
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


def real_images_beside(embeddings: str) -> Path | None:
    """The folder of the RealImageSet inside that of a prompt set's text embeddings; None where there is none."""
    folder = Path(embeddings) / RealImageSet.FOLDER
    return folder if embeddings and folder.is_dir() else None


def real_images_of(student: Student, folder: Path) -> RealImageSet | None:
    """The record of the real images that a student was trained with; None for a data-free one."""
    path = f"{LINEAGE}/{RealImageSet.FILE}"
    return RealImageSet.load(folder / path) if path in [ref.path for ref in student.lineage] else None
