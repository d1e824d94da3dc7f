"""The networks' files that published protocols need: the user's own, named in one TOML file, never downloaded.

```toml
[inception-2015-12-05]
place = "/models/inception-2015-12-05.pt"    # or s3://BUCKET/KEY
sha256 = "…"                                 # of your file; `sidlsg digest FILE` prints it
```
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sidlsg.errors import InputError, nearest
from sidlsg.places import resolve

INCEPTION = "inception-2015-12-05"
WEIGHTS = {
    INCEPTION: "the Inception network of 2015-12-05 as a TorchScript file, 2,048 pool features (NVIDIA published it "
    "beside StyleGAN's metrics)",
}
"""What can be named, and what it is."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Where a network's file lies, and what it must hold."""

    place: str
    sha256: str


def read_weights(path: Path) -> dict[str, WeightFile]:
    """Read a `weights.toml`; the files that it names are not looked at.

    Raises:
        InputError: the file is missing or no TOML, names an unknown network, or lacks a place or a digest.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a weights.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    return {name: _weight_file(path, name, values) for name, values in table.items()}


def _weight_file(path: Path, name: str, values: object) -> WeightFile:
    if name not in WEIGHTS:
        raise InputError(f"{path} names {name!r}{nearest(name, WEIGHTS)}; allowed: {', '.join(WEIGHTS)}")
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
    """A network's file, its content checked.

    Raises:
        ContentError: its content is another.
        InputError: it is not named, or not there.
        StorageError: the S3 server did not give it.
    """
    if name not in weights:
        raise InputError(
            f"no weights are named for {name}, {WEIGHTS[name]}; put [{name}] with place and sha256 of your file into "
            "weights.toml"
        )
    return resolve(weights[name].place, weights[name].sha256)
