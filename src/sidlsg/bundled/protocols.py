"""The protocols of a bundled domain: images, reference and networks of its scores.

Their names differ from those of published protocols, since their scores do not compare with any others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sidlsg.bundled.domain import Caption, Domain
from sidlsg.bundled.judge import Judge, load_judge
from sidlsg.bundled.measures import EfficientNetMeasure, JudgeColumns, JudgeMeasure, accuracies, accuracy_intervals
from sidlsg.evaluate.distances import Reference, frechet_interval, kernel_distance_with_interval, share_interval
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.networks import EfficientNetFeatures
from sidlsg.evaluate.precision_recall import NEIGHBOURS, precision_recall
from sidlsg.evaluate.suite import ImageSet, TextFit, Values
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes, sha256_file
from sidlsg.storage.records import Score, StyleMean
from sidlsg.teacher.images import Images

IMAGES = 2016
"""Number of generated and of reference images; the held-out captions take turns."""
REFERENCE_SEED = 1_000_001
REAL = "real images"
"""The subject of the real-image baseline."""
BASELINE_SEED = 1_000_002
"""Seed of a second set of real images, whose distance to the first is the real-image baseline."""
NAMES = {
    "fid_judge": "fid/{}-judge64-2016",
    "fid_efficientnet": "fid/{}-efficientnet-lite0-64-2016",
    "kid_judge": "kid/{}-judge64-2016",
    "kid_efficientnet": "kid/{}-efficientnet-lite0-64-2016",
    "precision_judge": "pr/{}-judge64-k3-2016",
    "recall_judge": "pr/{}-judge64-k3-2016",
    "attributes": "attributes/{}-judge-mean-2016",
    "all_attributes": "attributes/{}-judge-all-2016",
}
"""Protocols by score, to be filled with the domain's name."""


@dataclass(frozen=True)
class DomainProtocols:
    """The suite of a domain's protocols, with their networks and references."""

    captions: tuple[Caption, ...]
    """Image i is sampled for caption i with seed i."""
    judge: Judge
    judge_sha256: str
    efficientnet: EfficientNetFeatures
    judge_reference: Reference
    efficientnet_reference: Reference
    digests: dict[str, str]
    """Reference digest by protocol: captions, reference images and network."""

    @property
    def domain(self) -> Domain:
        """The domain that the judge reads."""
        return self.judge.domain

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """See `Suite`."""
        return (ImageSet(name=self.domain.name, prompts=tuple(caption.text for caption in self.captions)),)

    def measures(self, image_set: ImageSet) -> tuple[JudgeMeasure, EfficientNetMeasure]:
        """See `Suite`."""
        del image_set
        return JudgeMeasure(self.judge, self.judge_sha256), EfficientNetMeasure(self.efficientnet)

    def score(self, images: Images, intervals: bool = True) -> tuple[Score, ...]:
        """All scores of [N, H, W, 3] images, one per caption; intervals take some seconds."""
        if len(images) != len(self.captions):
            raise InputError(
                f"{len(images)} images given for {len(self.captions)} captions; give one image per caption"
            )
        (image_set,) = self.sets
        return self.scores(
            {self.domain.name: {m.name: m(images, image_set.prompts) for m in self.measures(image_set)}}, intervals
        )

    def scores(self, values: Values, intervals: bool = True) -> tuple[Score, ...]:
        """See `Suite`."""
        measured = values[self.domain.name]
        reading, other = self.reading(values), measured[EfficientNetMeasure.name]
        sets = (
            ("judge", reading.features, self.judge_reference),
            ("efficientnet", other, self.efficientnet_reference),
        )
        rows = []
        for name, features, reference in sets:
            statistics = FeatureStatistics(reference.statistics.dim).update(features)
            around = frechet_interval(features, reference.statistics.gaussian()) if intervals else None
            rows.append(self._score(f"fid_{name}", frechet_distance(statistics, reference.statistics), around))
        for name, features, reference in sets:
            if self.protocol(f"kid_{name}") in self.digests:
                scale = reference.scale
                value, around = kernel_distance_with_interval(features / scale, reference.features / scale)
                rows.append(self._score(f"kid_{name}", value, around))
        if self.protocol("recall_judge") in self.digests:
            covered = precision_recall(reading.features, self.judge_reference.features)
            count = len(self.captions)
            for name, share in (("precision_judge", covered.precision), ("recall_judge", covered.recall)):
                around = share_interval(round(share * count), count) if intervals else None
                rows.append(self._score(name, share, around, higher_is_better=True))
        found = accuracies(reading.right, self.domain)
        around_found = accuracy_intervals(reading.right, self.domain) if intervals else {}
        shares = ("attributes", "all_attributes")
        rows += [self._score(name, found[name], around_found.get(name), higher_is_better=True) for name in shares]
        return tuple(rows)

    def styles(self, values: Values) -> tuple[StyleMean, ...]:
        """See `Suite`."""
        del values
        return ()

    def text_fit(self, values: Values) -> TextFit:
        """See `Suite`."""
        return TextFit(
            image_set=self.sets[0],
            values=self.reading(values).log_probability,
            measure="the judge's mean log-probability of the caption's attributes",
        )

    def reading(self, values: Values) -> JudgeColumns:
        """What the judge read from the images."""
        return JudgeColumns(values[self.domain.name][JudgeMeasure.name], self.domain)

    def protocol(self, score: str) -> str:
        """The name of a score's protocol."""
        return NAMES[score].format(self.domain.name)

    def _score(
        self, name: str, value: float, around: tuple[float, float] | None, higher_is_better: bool = False
    ) -> Score:
        protocol = self.protocol(name)
        return Score(
            name=name,
            value=value,
            protocol=protocol,
            n=len(self.captions),
            reference_digest=self.digests[protocol],
            higher_is_better=higher_is_better,
            interval=around,
        )


def real_images(domain: Domain, captions: Sequence[Caption], seed: int) -> Images:
    """One drawn image per caption."""
    return np.asarray(domain.draw(captions, seed, range(len(captions))))


def load_domain_protocols(
    domain: Domain, held_out: Sequence[str], judge_file: Path, count: int = IMAGES
) -> DomainProtocols:
    """Load the networks and draw the reference of `count` images, for which the evaluation captions repeat in order.

    Raises:
        InputError: there is no caption, one is not of the domain, or a network is missing.
    """
    if not held_out:
        raise InputError(f"the list of evaluation captions is empty; give captions of the {domain.name} domain")
    parsed = [domain.parse(text) for text in held_out]
    captions = tuple(parsed[i % len(parsed)] for i in range(count))
    reference = real_images(domain, captions, REFERENCE_SEED)
    judge, efficientnet, judge_sha256 = load_judge(judge_file, domain), EfficientNetFeatures(), sha256_file(judge_file)
    prompts = [caption.text for caption in captions]
    read = JudgeColumns(JudgeMeasure(judge, judge_sha256)(reference, prompts), domain)
    judge_reference = Reference(read.features)
    efficientnet_reference = Reference(EfficientNetMeasure(efficientnet)(reference, prompts))

    texts, images_sha256 = "\n".join(prompts), sha256_bytes(reference.tobytes())

    def digest(*parts: str) -> str:
        return hashlib.sha256("\n".join([texts, *parts]).encode()).hexdigest()

    of_judge, of_efficientnet = digest(images_sha256, judge_sha256), digest(images_sha256, efficientnet.weights_sha256)
    digests = {
        "fid_judge": of_judge,
        "fid_efficientnet": of_efficientnet,
        "attributes": digest(judge_sha256),
        "all_attributes": digest(judge_sha256),
    }
    if count > NEIGHBOURS:
        digests["recall_judge"] = of_judge
    if judge_reference.has_kernel_distance:
        digests |= {"kid_judge": of_judge, "kid_efficientnet": of_efficientnet}
    return DomainProtocols(
        captions=captions,
        judge=judge,
        judge_sha256=judge_sha256,
        efficientnet=efficientnet,
        judge_reference=judge_reference,
        efficientnet_reference=efficientnet_reference,
        digests={NAMES[score].format(domain.name): value for score, value in digests.items()},
    )
