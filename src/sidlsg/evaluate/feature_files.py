"""Files of image features and their statistics: ours, which record their source, and mu/sigma files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sidlsg.evaluate.fid import FeatureStatistics, Gaussian
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.tensors import load_tensors, save_tensors

MOST_BYTES = 1 << 28
"""Largest imported array; a float64 covariance of width 4,096 is half as large."""
FORMATS = (
    "features and statistics in whole .safetensors files that `sidlsg images` wrote, and as reference a .npz with the "
    "arrays mu and sigma, which numpy.savez(FILE, mu=MEAN, sigma=COVARIANCE) writes"
)
MOST_IMAGES = 2**53
"""Integers up to here are exact in float64."""
_FEATURES, _STATISTICS = "sidlsg/features/1", "sidlsg/feature-statistics/1"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The images and network of features."""

    space: str
    """Network and resizing, see `sidlsg.evaluate.published.Protocol.space`."""
    network_sha256: str
    images_sha256: str
    """Digest of the images' names and contents; for merged statistics, of the parts' digests."""
    prompts_sha256: str = ""
    """Digest of the prompts if they were read with the images."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features of each image."""

    features: Tensor
    """[N, dim] float32."""
    source: Source
    passed_over: str = ""
    """Files of the images' folder that were skipped, and why."""

    @property
    def statistics(self) -> FeatureStatistics:
        """Sums over the images, for a Fréchet distance."""
        return FeatureStatistics(self.features.shape[1]).update(self.features)


def save_features(features: FeatureSet, path: Path) -> None:
    """Write a set of features."""
    over = {"passed_over": features.passed_over} if features.passed_over else {}
    save_tensors(path, {"features": features.features}, {"kind": _FEATURES, **asdict(features.source), **over})


def save_statistics(statistics: FeatureStatistics, source: Source, path: Path) -> None:
    """Write sums instead of mean and covariance, so that statistics of parts can be merged."""
    tensors = {"sum": statistics.sum, "outer": statistics.outer}
    save_tensors(path, tensors, {"kind": _STATISTICS, "count": statistics.count, **asdict(source)})


def load_features(path: Path) -> FeatureSet:
    """Read features; raises InputError if the file is missing, damaged or of another kind."""
    found = load_features_or_statistics(path)
    if not isinstance(found, FeatureSet):
        raise InputError(f"{path} holds no features; give a file that `sidlsg images features` wrote")
    return found


def load_statistics(path: Path) -> tuple[FeatureStatistics, Source]:
    """Read statistics, or compute them from a file of features.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    found = load_features_or_statistics(path)
    return (found.statistics, found.source) if isinstance(found, FeatureSet) else found


def load_features_or_statistics(path: Path) -> FeatureSet | tuple[FeatureStatistics, Source]:
    """Read either kind of file."""
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        tensors, values = load_tensors(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read as features; give {FORMATS} ({error.__cause__ or error})") from error
    kind, names = values.get("kind"), set(tensors)
    if kind == _FEATURES and names == {"features"}:
        features = tensors["features"]
        if features.dim() != 2 or features.dtype != torch.float32:
            raise _unfit(path, "features", features)
        over = str(values.get("passed_over", ""))
        return FeatureSet(features=features, source=_source(values, path), passed_over=over)
    if kind != _STATISTICS or names != {"sum", "outer"}:
        raise InputError(f"{path} holds no features or statistics; give a file that `sidlsg images` wrote")
    total, outer, count = tensors["sum"], tensors["outer"], values.get("count")
    if total.dim() != 1 or total.dtype != torch.float64:
        raise _unfit(path, "sum", total)
    if outer.shape != (len(total), len(total)) or outer.dtype != torch.float64:
        raise _unfit(path, "outer", outer)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_IMAGES:
        raise InputError(f"count in {path} is {count!r}; allowed: 0 to {MOST_IMAGES:,}; make the file again")
    statistics = FeatureStatistics(len(total))
    statistics.count, statistics.sum, statistics.outer = count, total, outer
    return statistics, _source(values, path)


def _unfit(path: Path, name: str, tensor: Tensor) -> InputError:
    return InputError(
        f"the statistics in {path} do not fit together ({name} is {list(tensor.shape)} {tensor.dtype}); make the file "
        "again"
    )


def _source(values: Mapping[str, Any], path: Path) -> Source:
    found = {name: values[name] for name in Source.__dataclass_fields__ if name in values}
    missing = [name for name in ("space", "network_sha256", "images_sha256") if name not in found]
    if missing or not all(isinstance(value, str) for value in found.values()):
        what = f"lacks {missing[0]}" if missing else f"holds {found!r}, which should be texts"
        raise InputError(f"{path} {what}; make the file again")
    return Source(**found)


def import_mu_sigma(path: Path) -> Gaussian:
    """Read a `.npz` with the arrays `mu` [dim] and `sigma` [dim, dim], as other FID programs write it.

    It does not record its images, network and resizing.

    Raises:
        InputError: the file is missing or damaged, lacks an array, or has no valid mean and covariance.
    """
    try:
        # Pickled objects are refused by numpy.
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ("mu", "sigma") if name not in file.files]
            if missing:
                raise InputError(
                    f"{path} lacks {' and '.join(missing)} (it has {', '.join(file.files) or 'nothing'}); give a .npz "
                    "with the arrays mu and sigma"
                )
            for name in ("mu", "sigma"):
                size = file.zip.getinfo(f"{name}.npy").file_size
                if size > MOST_BYTES:
                    raise InputError(f"{name} in {path} has {size:,} bytes unpacked; allowed: {MOST_BYTES:,}")
            mu, sigma = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        AttributeError,
        KeyError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(
            f"{path} is not a readable .npz of numbers ({error}); give one with the arrays mu and sigma"
        ) from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise InputError(f"mu and sigma in {path} are {mu.shape} and {sigma.shape}; expected (dim,), (dim, dim)")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise InputError(f"mu or sigma in {path} holds NaN or infinity; make the file again")
    if not np.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-8 * max(1e-30, float(np.abs(sigma).max()))):
        raise InputError(f"sigma in {path} is not symmetric, so it is not a covariance; make the file again")
    # The file does not have the number of images, so the rank is unknown.
    return Gaussian(mean=torch.from_numpy(mu), cov=torch.from_numpy((sigma + sigma.T) / 2), rank=len(mu))


def merge_statistics(parts: Sequence[Path], output: Path) -> int:
    """Merge files of features or statistics, in any order, into one file of statistics.

    Returns:
        The number of images.

    Raises:
        InputError: a file cannot be read, is of another space or network than the first, or is given twice.
    """
    found = [(path, *load_statistics(path)) for path in parts]
    if not found:
        raise InputError("no file of features or statistics given; give one or more")
    (_, whole, first), *rest = found
    seen = {first.images_sha256}
    for path, statistics, source in rest:
        if (source.space, source.network_sha256) != (first.space, first.network_sha256):
            raise InputError(
                f"{path} is of {source.space} by {source.network_sha256[:16]}…, but {parts[0]} of {first.space} by "
                f"{first.network_sha256[:16]}…; merge files of one network and resizing"
            )
        if source.images_sha256 in seen:
            raise InputError(f"{path} has the images of another file; give each part once")
        seen.add(source.images_sha256)
        whole.merge(statistics)
    images = first.images_sha256 if len(seen) == 1 else sha256_bytes("\n".join(sorted(seen)).encode())
    source = Source(space=first.space, network_sha256=first.network_sha256, images_sha256=images)
    save_statistics(whole, source, output)
    return whole.count
