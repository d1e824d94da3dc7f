"""Published protocols as one suite: what they need is loaded and checked before anything is drawn."""

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
from sidlsg.evaluate.suite import DrawnSet, Measure, TextFit, Values, prompts_digest
from sidlsg.evaluate.weights import WeightFile, weight_path
from sidlsg.runtime.distributed import own_device
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_json
from sidlsg.storage.files import read_list, sha256_bytes, sha256_file
from sidlsg.storage.records import Record, Score, StyleMean


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


CAPTION_SET = "captions"
CAPTION_FILE = "list of captions"
STYLE_SETS = {style: f"hpsv2-{style}" for style in STYLES}


class PublishedSuite:
    """The published protocols that an evaluation asks for."""

    def __init__(self, names: Sequence[str], weights: Mapping[str, WeightFile], device: torch.device) -> None:
        """Args:
        names: of the protocols.
        weights: the files that they need.
        device: where the networks run.

        Raises:
            InputError: a protocol is unknown, or a file is missing, damaged, or does not fit its protocol.
        """
        self.protocols = tuple(get_protocol(name) for name in dict.fromkeys(names))
        paths = {name: weight_path(weights, name) for each in self.protocols for name in each.files}
        # What is quickly seen to be wrong comes first, the networks last.
        self._references: dict[str, References] = {}
        self._sets: dict[str, tuple[DrawnSet, ...]] = {}
        for protocol in self.protocols:
            if protocol.prompts not in self._sets:
                self._sets[protocol.prompts] = _drawn_sets(protocol, paths[protocol.prompts])
            count = sum(len(drawn.prompts) for drawn in self._sets[protocol.prompts])
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
    def sets(self) -> tuple[DrawnSet, ...]:
        """See `Suite`."""
        return tuple(drawn for sets in self._sets.values() for drawn in sets)

    def measures(self, drawn: DrawnSet) -> tuple[Measure, ...]:
        """See `Suite`."""
        asking = (each for each in self.protocols if drawn in self._sets[each.prompts])
        return tuple(self._networks[space] for space in dict.fromkeys(each.space for each in asking))

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
        """See `Suite`: by CLIP where it is measured, else by HPSv2 on photographs' prompts."""
        for formula, name in (("cosine", CAPTION_SET), ("preference", STYLE_SETS["photo"])):
            for protocol in self.protocols:
                if protocol.formula == formula:
                    (drawn,) = (each for each in self._sets[protocol.prompts] if each.name == name)
                    found = values[name][self._networks[protocol.space].name][:, 0]
                    return TextFit(drawn=drawn, values=found, measure=f"{protocol.scores[0]} of the picture")
        return None

    def _read(self, protocol: Protocol, values: Values) -> FeatureSet:
        """What was read off a protocol's pictures, in its sets' order."""
        network, sets = self._networks[protocol.space], self._sets[protocol.prompts]
        source = Source(
            space=protocol.space,
            network_sha256=network.sha256,
            images_sha256="",
            prompts_sha256=prompts_digest([text for drawn in sets for text in drawn.prompts]),
        )
        return FeatureSet(features=torch.cat([values[drawn.name][network.name] for drawn in sets]), source=source)


def load_published(names: Sequence[str], weights: Mapping[str, WeightFile]) -> PublishedSuite | None:
    """The published protocols of these names on this process' device; None for none.

    Raises:
        InputError: see `PublishedSuite`.
    """
    return PublishedSuite(names, weights, own_device()) if names else None


def _drawn_sets(protocol: Protocol, path: Path) -> tuple[DrawnSet, ...]:
    if protocol.formula == "preference":
        # The published scores are of pictures in JPEG files.
        prompts = read_style_prompts(path)
        return tuple(DrawnSet(name=STYLE_SETS[style], prompts=prompts[style], format="jpeg") for style in STYLES)
    return (DrawnSet(name=CAPTION_SET, prompts=tuple(read_list(path, CAPTION_FILE, "caption"))),)


def read_style_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    """Read HPSv2's prompts.

    Raises:
        InputError: the file is no JSON object of four lists of 800 texts.
    """
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
