"""The user's network, prompt and reference files of an evaluation, which are never downloaded.

```toml
[inception-2015-12-05]
place = "/models/inception-2015-12-05.pt"    # or s3://BUCKET/KEY
sha256 = "…"                                 # of your file; `sidlsg digest FILE` prints it
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_toml, read_text
from sidlsg.storage.uri import JUDGE, SCENES_JUDGE, refuse_folder, resolve

INCEPTION = "inception-2015-12-05"
CLIP = "clip-vit-g-14-laion2b-s12b-b42k"
HPS_2_0, HPS_2_1 = "hpsv2-v2.0", "hpsv2-v2.1"
CAPTIONS, HPS_PROMPTS = "captions", "hpsv2-prompts"
REFERENCE_CLEAN, REFERENCE_INSIDE = "reference-clean", "reference-inside"
_REFERENCE = "features or statistics of the reference's images, from `sidlsg images`, or a .npz of mu and sigma;"
FILES = {
    INCEPTION: "the Inception network of 2015-12-05 as a TorchScript file, 2,048 pool features (NVIDIA published it "
    "beside StyleGAN's metrics)",
    CLIP: "open_clip's ViT-g-14 of laion2b_s12b_b42k, a .safetensors or PyTorch file of weights",
    HPS_2_0: "HPS_v2_compressed.pt, the ViT-H-14 of HPSv2's authors",
    HPS_2_1: "HPS_v2.1_compressed.pt, their newer one",
    CAPTIONS: "text file of captions, one a line: 30,000 for COCO's protocols",
    HPS_PROMPTS: "JSON file of HPSv2's prompts: an object with a list of 800 for each of its four styles",
    REFERENCE_CLEAN: f"{_REFERENCE} resized antialiased (`clean`)",
    REFERENCE_INSIDE: f"{_REFERENCE} resized by the network (`inside`)",
}
"""Descriptions by name."""
_ADVICE = "give a weights.toml"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Path or URI and digest of a file."""

    place: str
    sha256: str


def read_weights(path: Path) -> dict[str, WeightFile]:
    """Read a `weights.toml`, without the files that it names."""
    return parse_weights(read_text(path, _ADVICE), str(path))


def parse_weights(text: str, path: str = "the text of weights.toml") -> dict[str, WeightFile]:
    """Read the text of a `weights.toml`, such as a pipeline's parameter.

    Raises:
        InputError: it is not TOML, names an unknown file, or lacks a URI or a digest.
    """
    return {name: _weight_file(path, name, values) for name, values in parse_toml(text, path, _ADVICE).items()}


def _weight_file(path: str, name: str, values: object) -> WeightFile:
    if name not in FILES:
        raise InputError(f"{path} names {name!r}{nearest(name, FILES)}; allowed: {', '.join(FILES)}")
    if not isinstance(values, dict) or set(values) != {"place", "sha256"}:
        raise InputError(f"[{name}] in {path} must have place and sha256, and nothing else")
    place, sha256 = values["place"], values["sha256"]
    if not isinstance(place, str) or not place:
        raise InputError(f"place of [{name}] in {path} is {place!r}; give a path or s3://BUCKET/KEY")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError(
            f"sha256 of [{name}] in {path} is {sha256!r}; give the 64 digits that `sidlsg digest {place}` prints"
        )
    return WeightFile(place=place, sha256=sha256)


def weight_path(weights: Mapping[str, WeightFile], name: str) -> Path:
    """The local path of a file, fetched if remote, whose digest was checked.

    Raises:
        ContentError: the digest differs.
        InputError: it is not named, missing, or a folder.
        StorageError: the S3 server failed.
    """
    if name not in weights:
        raise InputError(
            f"{name} is missing: {FILES[name]}; put [{name}] with place and sha256 of your file into "
            "weights.toml, and give that with --weights"
        )
    try:
        refuse_folder(weights[name].place, FILES[name])
        return resolve(weights[name].place, weights[name].sha256)
    except InputError as error:
        raise type(error)(f"[{name}] in weights.toml: {error}") from error


def check_judge(path: Path) -> None:
    """Check by a file's header, without torch, that its tensors have names and shapes of a bundled domain's judge.

    Raises:
        InputError: the file is missing, damaged, or has another network.
    """
    # Imported here: the image that curates checks URIs by this module, and lacks the libraries of networks.
    from sidlsg.teacher.source import tensor_shapes

    found, *known = (
        {name: shape for name, (shape, _) in tensor_shapes(each).items()}
        for each in (path, resolve(JUDGE), resolve(SCENES_JUDGE))
    )
    if found not in known:
        raise InputError(f"{path} holds another network than a judge; give a file made by `sidlsg teach`")
