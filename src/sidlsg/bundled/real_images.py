"""Real images of a bundled domain with their captions, as a folder or a tar, for recipes that train with some."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from sidlsg.bundled.domain import Domain
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted
from sidlsg.storage.files import atomic_file, atomic_folder

METADATA = "metadata.jsonl"
_AT_ONCE = 256


def write_real_images(domain: Domain, output: Path, count: int, seed: int) -> None:
    """Draw images of the captions that are not held out; one whose name ends in .tar is a webdataset.

    The captions come in turn. No other set of the domain has the same images.

    Raises:
        InputError: the output is there, and was not written by this.
    """
    if output.name.endswith(".tar"):
        if output.exists():
            raise InputError(f"{output} exists; delete it, or give another file")
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(output) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for name, data, caption in _images(domain, count, seed):
                for suffix, content in (("png", data), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        return
    with atomic_folder(output, METADATA) as folder, (folder / METADATA).open("w") as rows:
        for name, data, caption in _images(domain, count, seed):
            (folder / f"{name}.png").write_bytes(data)
            rows.write(json.dumps({"file_name": f"{name}.png", "text": caption}) + "\n")


def _images(domain: Domain, count: int, seed: int) -> Iterator[tuple[str, bytes, str]]:
    """Name, PNG and caption of each image."""
    captions = domain.training_captions()
    own = int(counted(seed, f"{domain.name}/real images").integers(2**63))
    for start in range(0, count, _AT_ONCE):
        indices = range(start, min(start + _AT_ONCE, count))
        some = [captions[index % len(captions)] for index in indices]
        for index, caption, pixels in zip(indices, some, domain.draw(some, own, indices), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, format="PNG")
            yield f"{index:06}", buffer.getvalue(), caption.text
