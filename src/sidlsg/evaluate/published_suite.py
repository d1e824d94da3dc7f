"""Published protocols as one suite, whose files are loaded and checked before any image is sampled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sidlsg.evaluate.distances import frechet_interval, interval, kernel_distance_with_interval, share_interval
from sidlsg.evaluate.feature_files import FeatureSet, Source, import_mu_sigma, load_features_or_statistics
from sidlsg.evaluate.fid import FeatureStatistics, Gaussian, frechet_distance
from sidlsg.evaluate.networks import NetworkMeasure, load_network
from sidlsg.evaluate.precision_recall import precision_recall
from sidlsg.evaluate.published import PROMPTS_A_STYLE, STYLES, Protocol, get_protocol, preference_table
from sidlsg.evaluate.suite import ImageSet, Measure, TextFit, Values, prompts_digest
from sidlsg.evaluate.weights import WeightFile, weight_path
from sidlsg.runtime.distributed import own_device
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_json
from sidlsg.storage.files import read_list, sha256_bytes, sha256_file
from sidlsg.storage.records import Record, Score, StyleMean


@dataclass(frozen=True, kw_only=True)
class ImageScores(Record):
    """Scores of a set of images of any origin."""

    FILE: ClassVar[str] = "scores.json"
    images_sha256: str
    scores: tuple[Score, ...]
    passed_over: str = ""
    """Skipped files of the images' folder, and why."""
    network_sha256: str = ""
    """Digest of the network's file, which nothing here compares with a published one; empty in earlier records."""


@dataclass(frozen=True, kw_only=True)
class References:
    """The reference images' features or statistics, or only their mean and covariance."""

    path: str
    digest: str
    statistics: FeatureStatistics | Gaussian
    """A mean and covariance of another program have no `source`."""
    source: Source | None = None
    features: Tensor | None = None

    @property
    def count(self) -> int | None:
        """Number of images; None if unknown."""
        return self.statistics.count if isinstance(self.statistics, FeatureStatistics) else None

    def gaussian(self, ddof: int) -> Gaussian:
        """Mean and covariance."""
        return self.statistics if isinstance(self.statistics, Gaussian) else self.statistics.gaussian(ddof)


def load_references(path: Path) -> References:
    """Read features, statistics or a `.npz` of mu and sigma.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    if path.suffix.lower() == ".npz" or zipfile.is_zipfile(path):
        try:
            digest = sha256_file(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; give a .npz with mu and sigma") from error
        return References(path=str(path), digest=digest, statistics=import_mu_sigma(path))
    found = load_features_or_statistics(path)
    features = found.features if isinstance(found, FeatureSet) else None
    statistics, source = (found.statistics, found.source) if isinstance(found, FeatureSet) else found
    parts = (source.space, source.network_sha256, source.images_sha256)
    return References(
        path=str(path),
        digest=sha256_bytes("\n".join(parts).encode()),
        source=source,
        features=features,
        statistics=statistics,
    )


def compare(generated: FeatureSet, reference: References | None, protocol: Protocol) -> tuple[Score, ...]:
    """The protocol's scores of generated images.

    Raises:
        InputError: the features have another space, network or count than the protocol's, or the reference is missing
            or has only statistics but each image's features are needed.
    """
    source = generated.source
    if source.space != protocol.space:
        raise InputError(
            f"the generated images' features are of {source.space}, and {protocol.name} takes {protocol.space}; make "
            "them again"
        )
    require_count(len(generated.features), "generated", protocol.images, protocol)
    if protocol.reference:
        if reference is None:
            raise InputError(f"{protocol.name} compares with reference images; give their features")
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


def _values(
    generated: FeatureSet, reference: References | None, protocol: Protocol
) -> list[tuple[float, tuple[float, float]]]:
    """Value and interval of each of the protocol's scores."""
    features = generated.features
    if reference is None:
        # The network gives a score for each image.
        mean = float(features.double().mean())
        return [(mean, interval(mean, float(features.double().std()) / len(features) ** 0.5))]
    if protocol.formula == "frechet":
        target = reference.gaussian(protocol.ddof)
        value = frechet_distance(generated.statistics.gaussian(protocol.ddof), target)
        return [(value, frechet_interval(features, target, protocol.ddof))]
    theirs = reference.features
    assert theirs is not None  # checked by `require_reference`
    if protocol.formula == "kernel":
        return [kernel_distance_with_interval(features, theirs)]
    shares = precision_recall(features, theirs)
    # Over other images within the same manifolds: generated ones for precision, the reference's for recall.
    return [
        (share, share_interval(round(share * count), count))
        for share, count in ((shares.precision, len(features)), (shares.recall, len(theirs)))
    ]


def require_reference(reference: References, protocol: Protocol, network_sha256: str) -> None:
    """Raise InputError unless a reference fits the protocol and was made with the same network."""
    source = reference.source
    if source is not None and source.space != protocol.space:
        raise InputError(
            f"{reference.path} are of {source.space}, and {protocol.name} takes {protocol.space}; make them again"
        )
    if source is not None and source.network_sha256 != network_sha256:
        raise InputError(
            f"{reference.path} was made by another file of {protocol.network} ({source.network_sha256[:16]}…) than "
            f"the generated images' features ({network_sha256[:16]}…); make both by one"
        )
    require_count(reference.count, "reference", protocol.references, protocol)
    if protocol.formula in ("kernel", "manifolds") and reference.features is None:
        raise InputError(
            f"{reference.path} has statistics alone, and {protocol.name} needs each image's features; give the file "
            "that `sidlsg images features` wrote of the reference"
        )


def require_count(count: int | None, what: str, expected: int | None, protocol: Protocol) -> None:
    """Raise InputError if the protocol takes another number of images; `count` is None if unknown."""
    takes = f"{protocol.least:,} or more" if expected is None else f"{expected:,}"
    if count is not None and (count < protocol.least or count != (expected or count)):
        raise InputError(f"{count:,} {what} images given, and {protocol.name} takes {takes}; nothing is scored")


CAPTION_SET = "captions"
CAPTION_FILE = "list of captions"
STYLE_SETS = {style: f"hpsv2-{style}" for style in STYLES}


class PublishedSuite:
    """The published protocols of an evaluation."""

    def __init__(self, names: Sequence[str], weights: Mapping[str, WeightFile], device: torch.device) -> None:
        """Load the protocols of these names with their files.

        Raises:
            InputError: a protocol is unknown, or a file is missing, damaged, or does not fit its protocol.
        """
        self.protocols = tuple(get_protocol(name) for name in dict.fromkeys(names))
        paths = {name: weight_path(weights, name) for each in self.protocols for name in each.files}
        # Quick checks come first, the networks last.
        self._references: dict[str, References] = {}
        self._sets: dict[str, tuple[ImageSet, ...]] = {}
        for protocol in self.protocols:
            if protocol.prompts not in self._sets:
                self._sets[protocol.prompts] = _drawn_sets(protocol, paths[protocol.prompts])
            count = sum(len(image_set.prompts) for image_set in self._sets[protocol.prompts])
            if protocol.images not in (None, count):
                raise InputError(
                    f"{paths[protocol.prompts]} holds {count:,} prompts, and {protocol.name} takes "
                    f"{protocol.images:,}; give the protocol's list"
                )
            require_count(count, "generated", protocol.images, protocol)
            if protocol.reference:
                name = protocol.reference
                if name not in self._references:
                    self._references[name] = load_references(paths[name])
                require_reference(self._references[name], protocol, weights[protocol.network].sha256)
        self._networks: dict[str, NetworkMeasure] = {}
        for protocol in self.protocols:
            if protocol.space not in self._networks:
                self._networks[protocol.space] = load_network(
                    protocol, weights[protocol.network].sha256, paths[protocol.network], device
                )

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """See `Suite`."""
        return tuple(image_set for sets in self._sets.values() for image_set in sets)

    def measures(self, image_set: ImageSet) -> tuple[Measure, ...]:
        """See `Suite`."""
        wanted = (each for each in self.protocols if image_set in self._sets[each.prompts])
        return tuple(self._networks[space] for space in dict.fromkeys(each.space for each in wanted))

    def scores(self, values: Values) -> tuple[Score, ...]:
        """See `Suite`."""
        return tuple(
            score
            for protocol in self.protocols
            for score in compare(self._read(protocol, values), self._references.get(protocol.reference), protocol)
        )

    def styles(self, values: Values) -> tuple[StyleMean, ...]:
        """See `Suite`."""
        rows = []
        for protocol in self.protocols:
            if protocol.formula == "preference":
                name = self._networks[protocol.space].name
                by_style = {style: values[set_][name][:, 0].tolist() for style, set_ in STYLE_SETS.items()}
                table = preference_table(by_style)
                rows += [
                    StyleMean(protocol=protocol.name, style=style, mean=row.mean, deviation=row.deviation)
                    for style, row in table.styles.items()
                ]
        return tuple(rows)

    def text_fit(self, values: Values) -> TextFit | None:
        """See `Suite`: by CLIP if measured, else by HPSv2 for the photo prompts."""
        for formula, name in (("cosine", CAPTION_SET), ("preference", STYLE_SETS["photo"])):
            for protocol in self.protocols:
                if protocol.formula == formula:
                    (image_set,) = (each for each in self._sets[protocol.prompts] if each.name == name)
                    found = values[name][self._networks[protocol.space].name][:, 0]
                    return TextFit(image_set=image_set, values=found, measure=f"{protocol.scores[0]} of the image")
        return None

    def _read(self, protocol: Protocol, values: Values) -> FeatureSet:
        """The features of a protocol's images, in the order of its sets."""
        network, sets = self._networks[protocol.space], self._sets[protocol.prompts]
        source = Source(
            space=protocol.space,
            network_sha256=network.sha256,
            images_sha256="",
            prompts_sha256=prompts_digest([text for image_set in sets for text in image_set.prompts]),
        )
        return FeatureSet(
            features=torch.cat([values[image_set.name][network.name] for image_set in sets]), source=source
        )


def load_published(names: Sequence[str], weights: Mapping[str, WeightFile]) -> PublishedSuite | None:
    """A `PublishedSuite` on this process's device; None without names."""
    return PublishedSuite(names, weights, own_device()) if names else None


def _drawn_sets(protocol: Protocol, path: Path) -> tuple[ImageSet, ...]:
    if protocol.formula == "preference":
        # The published scores are those of JPEG files.
        prompts = read_style_prompts(path)
        return tuple(ImageSet(name=STYLE_SETS[style], prompts=prompts[style], format="jpeg") for style in STYLES)
    return (ImageSet(name=CAPTION_SET, prompts=tuple(read_list(path, CAPTION_FILE, "caption"))),)


def read_style_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    """Read HPSv2's prompts, a JSON object of four lists of 800 texts."""
    table = read_json(path, "give HPSv2's prompts by style")
    if not isinstance(table, dict) or set(table) != set(STYLES):
        held = ", ".join(table) if isinstance(table, dict) else type(table).__name__
        raise InputError(f"{path} holds {held}; give a JSON object with a list for each of {', '.join(STYLES)}")
    for style, prompts in table.items():
        is_texts = isinstance(prompts, list) and all(isinstance(text, str) for text in prompts)
        if not is_texts or len(prompts) != PROMPTS_A_STYLE:
            held = f"{len(prompts):,} entries" if isinstance(prompts, list) else type(prompts).__name__
            raise InputError(f"{style} in {path} has {held}; give a list of {PROMPTS_A_STYLE} texts")
    return {style: tuple(table[style]) for style in STYLES}
