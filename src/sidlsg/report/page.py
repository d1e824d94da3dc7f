"""A page from a template of this package: whatever a record holds is text on it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sidlsg.runtime import formatting as text
from sidlsg.runtime.formatting import counted
from sidlsg.storage.records import FileRef, Scorecard


def render(template: str, **values: Any) -> str:
    """The page's HTML."""
    # Every value is escaped, and a name that the template misspells is an error.
    environment = Environment(
        loader=PackageLoader("sidlsg.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = text.duration
    environment.filters["short"] = lambda digest: digest[: text.DIGEST_SHOWN]
    return environment.get_template(template).render(**values)


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """A picture with its caption."""

    caption: str
    source: str
    """A data URI; empty where the file is not in the artifact's folder."""
    path: str
    """Where the file is, as the record has it."""
    width: int = 0
    """In pixels, as the file says; one that is shown larger than it is keeps its pixels' edges."""


def picture(ref: FileRef, folder: Path, caption: str) -> PageImage:
    """Embed a PNG of an artifact; a file in remote storage is only named."""
    if "://" in ref.path:
        return PageImage(caption=caption, source="", path=ref.path)
    data = (folder / ref.path).read_bytes()
    # A PNG begins with its signature, a chunk's length and name, and then its width.
    width = int.from_bytes(data[16:20], "big")
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return PageImage(caption=caption, source=source, path=ref.path, width=width)


def subject_grids(scorecard: Scorecard, folder: Path) -> tuple[list[PageImage], list[PageImage]]:
    """The grids of a scorecard, in its order: those of the generators, and those of real images."""
    real = {subject.subject for subject in scorecard.subjects if subject.steps == 0}
    generated: list[PageImage] = []
    reference: list[PageImage] = []
    for ref in scorecard.grids:
        name = _subject(ref)
        (reference if name in real else generated).append(picture(ref, folder, name))
    return generated, reference


def subject_grid(scorecard: Scorecard, folder: Path, subject: str, caption: str) -> PageImage | None:
    """The grid of one subject; None where the scorecard has none."""
    return next((picture(ref, folder, caption) for ref in scorecard.grids if _subject(ref) == subject), None)


def _subject(grid: FileRef) -> str:
    # A grid's file is named after its subject, blanks as underscores.
    return grid.path.rpartition("/")[2].removesuffix(".png").replace("_", " ")


def sample_strip(grids: Sequence[FileRef], folder: Path) -> list[PageImage]:
    """The student's sample grids, each named by the images seen until then."""
    strip = []
    for ref in grids:
        stem = ref.path.rpartition("/")[2].removesuffix(".png")
        strip.append(picture(ref, folder, counted(int(stem), "image", "images") if stem.isdecimal() else stem))
    return strip
