"""Scores of one set of features against a reference, under published protocols."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from sidlsg.evaluate.distances import frechet_interval, kernel_distance_with_interval
from sidlsg.evaluate.feature_files import FeatureSet, Source, import_mu_sigma, load_features_or_statistics
from sidlsg.evaluate.fid import FeatureStatistics, Gaussian, frechet_distance
from sidlsg.evaluate.precision_recall import precision_recall
from sidlsg.evaluate.published import Protocol
from sidlsg.evaluate.uncertainty import interval, share_interval
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes, sha256_file
from sidlsg.storage.records import Record, Score


@dataclass(frozen=True, kw_only=True)
class ImageScores(Record):
    """Scores of a set of pictures, whoever made them."""

    FILE: ClassVar[str] = "scores.json"
    images_sha256: str
    scores: tuple[Score, ...]
    passed_over: str = ""
    """What of the pictures' folder was not scored, and why; empty for nothing."""


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
    if path.suffix.lower() == ".npz" or zipfile.is_zipfile(path):
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


def compare(generated: FeatureSet, reference: References | None, protocol: Protocol) -> tuple[Score, ...]:
    """The protocol's scores.

    Raises:
        InputError: what was read off the pictures is of another space, network or count than the protocol's, or the
            reference is missing or has only statistics where each picture's features are needed.
    """
    source = generated.source
    if source.space != protocol.space:
        raise InputError(
            f"the generated pictures' features are of {source.space}, and {protocol.name} takes {protocol.space}; make "
            "them again"
        )
    require_count(len(generated.features), "generated", protocol.images, protocol)
    if protocol.reference:
        if reference is None:
            raise InputError(f"{protocol.name} compares with a reference's pictures; give their features")
        require_reference(reference, protocol, source.network_sha256)
        digest = reference.digest
    else:
        digest = sha256_bytes("\n".join([source.space, source.network_sha256, source.prompts_sha256]).encode())
    return tuple(
        Score(
            name=name,
            value=value,
            protocol=protocol.name,
            n=len(generated.features),
            reference_digest=digest,
            higher_is_better=protocol.formula in ("manifolds", "cosine", "preference"),
            interval=around,
        )
        for name, (value, around) in zip(protocol.scores, _values(generated, reference, protocol), strict=True)
    )


Found = tuple[float, tuple[float, float] | None]
"""A value and its interval."""


def _values(generated: FeatureSet, reference: References | None, protocol: Protocol) -> list[Found]:
    """One for each name of the protocol's scores."""
    features = generated.features
    if reference is None:
        # The mean of what the network said of each picture.
        mean = float(features.double().mean())
        return [(mean, interval(mean, float(features.double().std()) / len(features) ** 0.5))]
    if protocol.formula == "frechet":
        target = reference.gaussian(protocol.ddof)
        value = frechet_distance(generated.statistics.gaussian(protocol.ddof), target)
        return [(value, frechet_interval(features, target, protocol.ddof))]
    theirs = reference.features
    assert theirs is not None  # `require_reference` saw to it
    if protocol.formula == "kernel":
        return [kernel_distance_with_interval(features, theirs)]
    shares = precision_recall(features, theirs)
    # Of other pictures within the same manifolds: generated ones for precision, the reference's for recall.
    return [
        (share, share_interval(round(share * count), count))
        for share, count in ((shares.precision, len(features)), (shares.recall, len(theirs)))
    ]


def require_reference(reference: References, protocol: Protocol, network_sha256: str) -> None:
    """Check that a reference is of the protocol's kind, and was made by the network that the pictures are read by.

    Raises:
        InputError: it is not.
    """
    source = reference.source
    if source is not None and source.space != protocol.space:
        raise InputError(
            f"{reference.place} are of {source.space}, and {protocol.name} takes {protocol.space}; make them again"
        )
    if source is not None and source.network_sha256 != network_sha256:
        raise InputError(
            f"{reference.place} was made by another file of {protocol.network} ({source.network_sha256[:16]}…) than "
            f"the generated pictures' features ({network_sha256[:16]}…); make both by one"
        )
    require_count(reference.count, "reference", protocol.references, protocol)
    if protocol.formula in ("kernel", "manifolds") and reference.features is None:
        raise InputError(
            f"{reference.place} has statistics alone, and {protocol.name} needs each picture's features; give the file "
            "that `sidlsg images features` wrote of the reference"
        )


def require_count(count: int | None, what: str, expected: int | None, protocol: Protocol) -> None:
    """Check how many pictures there are, or will be; None where nobody says.

    Raises:
        InputError: there are more or fewer than the protocol takes.
    """
    if count is None:
        return
    if expected is not None and count != expected:
        raise InputError(f"{count:,} {what} pictures given, and {protocol.name} takes {expected:,}; nothing is scored")
    if count < protocol.least:
        raise InputError(
            f"{count:,} {what} pictures given, and {protocol.name} takes {protocol.least:,} or more; nothing is scored"
        )


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a .npz with mu and sigma") from error
