"""Sources of the same six images in each of their forms."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sidlsg.bundled.shapes.captions import training_captions
from sidlsg.bundled.shapes.drawing import draw

COUNT = 6
CAPTIONS = [caption.text for caption in training_captions()[:COUNT]]
Tar = Callable[[Path, dict[str, bytes]], Path]


def png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", **options)
    return buffer.getvalue()


PNGS = [png(pixels) for pixels in draw(training_captions()[:COUNT], 0, range(COUNT))]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_source(folder: Path, form: str) -> Path:
    """The six images as `sidecars`, `metadata`, `list`, `parquet` or `tars`."""
    folder.mkdir()
    if form == "parquet":
        rows = [{"bytes": data, "path": None} for data in PNGS]
        for name, part in (("b", slice(4, None)), ("a", slice(4))):
            table = pa.table({"image": rows[part], "text": CAPTIONS[part]})
            pq.write_table(table, folder / f"{name}.parquet", row_group_size=3)
    elif form == "tars":
        for name, numbers in (("00000.tar", range(4)), ("00001.tar", range(4, COUNT))):
            members = {}
            for i in numbers:
                members[f"in/{i}.png"] = PNGS[i]
                kind = "json" if i % 2 else "txt"
                members[f"in/{i}.{kind}"] = (json.dumps({"caption": CAPTIONS[i]}) if i % 2 else CAPTIONS[i]).encode()
            write_tar(folder / name, members)
    else:
        for i, data in enumerate(PNGS):
            (folder / f"{i}.png").write_bytes(data)
            if form == "sidecars":
                (folder / f"{i}.txt").write_text(CAPTIONS[i])
        if form == "metadata":
            rows = [json.dumps({"file_name": f"{i}.png", "text": text}) for i, text in enumerate(CAPTIONS)]
            (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
        if form == "list":
            (folder / "captions.txt").write_text("".join(f"{text}\n" for text in CAPTIONS))
    return folder


@pytest.fixture(params=["sidecars", "metadata", "list", "parquet", "tars"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", request.param)
