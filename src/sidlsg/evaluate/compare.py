"""Scores of one set of features against a reference, under published protocols."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from sidlsg.errors import InputError
from sidlsg.evaluate.distances import frechet_interval, kernel_distance_with_interval
from sidlsg.evaluate.feature_files import FeatureSet, Source, import_mu_sigma, load_features_or_statistics
from sidlsg.evaluate.fid import FeatureStatistics, Gaussian, frechet_distance
from sidlsg.evaluate.precision_recall import precision_recall
from sidlsg.evaluate.published import Protocol
from sidlsg.evaluate.uncertainty import share_interval
from sidlsg.records import Record, Score
from sidlsg.storage import sha256_bytes, sha256_file


@dataclass(frozen=True, kw_only=True)
class ImageScores(Record):
    """Scores of a set of pictures, whoever made them."""

    FILE: ClassVar[str] = "scores.json"
    images_sha256: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class References:
    """What a file says of the reference's pictures: features, statistics of them, or a mean and a covariance alone."""

    place: str
    digest: str
    source: Source | None = None
    """None for the mean and covariance of another program, which do not say what they are of."""
    features: Tensor | None = None
    statistics: FeatureStatistics | None = None
    moments: Gaussian | None = None

    @property
    def count(self) -> int | None:
        """Pictures; None where the file does not say."""
        return self.statistics.count if self.statistics is not None else None

    def gaussian(self, ddof: int) -> Gaussian:
        """Mean and covariance."""
        if self.statistics is not None:
            return self.statistics.gaussian(ddof)
        assert self.moments is not None  # one of the two is there
        return self.moments


def load_references(path: Path) -> References:
    """Read any of the three kinds.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    if path.suffix == ".npz":
        return References(place=str(path), digest=_digest(path), moments=import_mu_sigma(path))
    found = load_features_or_statistics(path)
    if found is None:
        raise InputError(f"{path} holds no features or statistics; give a file that `sidlsg images` wrote")
    features = found.features if isinstance(found, FeatureSet) else None
    statistics, source = (found.statistics, found.source) if isinstance(found, FeatureSet) else found
    parts = (source.space, source.network_sha256, source.images_sha256)
    return References(
        place=str(path),
        digest=sha256_bytes("\n".join(parts).encode()),
        source=source,
        features=features,
        statistics=statistics,
    )


def compare(generated: FeatureSet, reference: References, protocol: Protocol) -> tuple[Score, ...]:
    """The protocol's scores.

    Raises:
        InputError: the features are of another space, network or count than the protocol's, or the reference has only
            statistics where each picture's features are needed.
    """
    _require_fit(generated, reference, protocol)
    return tuple(
        Score(
            name=name,
            value=value,
            protocol=protocol.name,
            n=len(generated.features),
            reference_digest=reference.digest,
            higher_is_better=name in ("precision", "recall"),
            interval=around,
        )
        for name, value, around in _values(generated, reference, protocol)
    )


def _values(
    generated: FeatureSet, reference: References, protocol: Protocol
) -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    features = generated.features
    if protocol.scores == ("fid",):
        target = reference.gaussian(protocol.ddof)
        value = frechet_distance(generated.statistics.gaussian(protocol.ddof), target)
        yield "fid", value, frechet_interval(features, target, protocol.ddof)
        return
    if reference.features is None:
        raise InputError(
            f"{reference.place} has statistics alone, and {protocol.name} needs each picture's features; give the file "
            "that `sidlsg images features` wrote of the reference"
        )
    if protocol.scores == ("kid",):
        yield "kid", *kernel_distance_with_interval(features, reference.features)
        return
    shares = precision_recall(features, reference.features)
    for name, share, count in (
        ("precision", shares.precision, len(features)),
        ("recall", shares.recall, len(reference.features)),
    ):
        # Of other pictures within the same manifolds.
        yield name, share, share_interval(round(share * count), count)


def _require_fit(generated: FeatureSet, reference: References, protocol: Protocol) -> None:
    for what, source in (("the generated pictures' features", generated.source), (reference.place, reference.source)):
        if source is not None and source.space != protocol.space:
            raise InputError(
                f"{what} are of {source.space}, and {protocol.name} takes {protocol.space}; make them again"
            )
    if reference.source is not None and reference.source.network_sha256 != generated.source.network_sha256:
        raise InputError(
            f"{reference.place} was made by another file of {protocol.network} "
            f"({reference.source.network_sha256[:16]}…) than the generated pictures' features "
            f"({generated.source.network_sha256[:16]}…); make both by one"
        )
    for what, count, expected in (
        ("generated pictures", len(generated.features), protocol.images),
        ("reference pictures", reference.count, protocol.references),
    ):
        if None not in (count, expected) and count != expected:
            raise InputError(f"{count:,} {what} given, and {protocol.name} takes {expected:,}; nothing is scored")


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a .npz with mu and sigma") from error
