"""HTML pages from this package's templates, in which every value of a record is escaped, and their images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sidlsg.runtime.formatting import DIGEST_SHOWN, counted, duration, fixed
from sidlsg.storage.records import FileRef, Scorecard


def render(template: str, **values: Any) -> str:
    """Render a page; a name that is not among the values is an error."""
    environment = Environment(
        loader=PackageLoader("sidlsg.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["fixed"] = fixed
    environment.filters["short"] = lambda digest: digest[:DIGEST_SHOWN]
    return environment.get_template(template).render(**values)


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """An image with its caption."""

    caption: str
    source: str
    """A data URI; empty if the file is not in the artifact's folder."""
    path: str
    """The file, as recorded."""
    width: int = 0
    """In pixels."""


def page_image(ref: FileRef, folder: Path, caption: str) -> PageImage:
    """Embed a PNG of an artifact; a file in remote storage is only named."""
    if "://" in ref.path:
        return PageImage(caption=caption, source="", path=ref.path)
    data = (folder / ref.path).read_bytes()
    # A PNG starts with its signature, the length and name of a chunk, and then its width.
    width = int.from_bytes(data[16:20], "big")
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return PageImage(caption=caption, source=source, path=ref.path, width=width)


def subject_grids(scorecard: Scorecard, folder: Path) -> tuple[list[PageImage], list[PageImage]]:
    """The grids of a scorecard, in its order: those of the generators, and those of real images."""
    real = {subject.subject for subject in scorecard.subjects if subject.steps == 0}
    grids = [page_image(ref, folder, _subject(ref)) for ref in scorecard.grids]
    return [grid for grid in grids if grid.caption not in real], [grid for grid in grids if grid.caption in real]


def subject_grid(scorecard: Scorecard, folder: Path, subject: str, caption: str) -> PageImage | None:
    """The grid of one subject; None if there is none."""
    return next((page_image(ref, folder, caption) for ref in scorecard.grids if _subject(ref) == subject), None)


def sample_grids(grids: Sequence[FileRef], folder: Path) -> list[PageImage]:
    """The student's sample grids during training, with the images seen until then as captions."""
    names = [PurePosixPath(ref.path).stem for ref in grids]
    return [
        page_image(ref, folder, counted(int(name), "image", "images") if name.isdecimal() else name)
        for ref, name in zip(grids, names, strict=True)
    ]


def _subject(grid: FileRef) -> str:
    # A grid's file is named after its subject, with underscores for blanks.
    return PurePosixPath(grid.path).stem.replace("_", " ")
