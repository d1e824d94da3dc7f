"""The protocols of the shapes domain: images, reference and networks of its scores.

Their names differ from those of published protocols, since their scores do not compare with any others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sidlsg.bundled.captions import Caption
from sidlsg.bundled.drawing import draw
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
"""Number of generated and of reference images: 21 of each of the 96 held-out captions."""
REFERENCE_SEED = 1_000_001
REAL = "real images"
"""The subject of the real-image baseline."""
BASELINE_SEED = 1_000_002
"""Seed of a second set of real images, whose distance to the first is the real-image baseline."""
SET = "shapes"

FID_JUDGE = "fid/shapes-judge64-2016"
FID_EFFICIENTNET = "fid/shapes-efficientnet-lite0-64-2016"
KID_JUDGE = "kid/shapes-judge64-2016"
KID_EFFICIENTNET = "kid/shapes-efficientnet-lite0-64-2016"
PRECISION_RECALL_JUDGE = "pr/shapes-judge64-k3-2016"
ATTRIBUTES_MEAN = "attributes/shapes-judge-mean-2016"
ATTRIBUTES_ALL = "attributes/shapes-judge-all-2016"


@dataclass(frozen=True)
class ShapesProtocols:
    """The suite of the shapes domain's protocols, with their networks and references."""

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
    def sets(self) -> tuple[ImageSet, ...]:
        """See `Suite`."""
        return (ImageSet(name=SET, prompts=tuple(caption.text for caption in self.captions)),)

    def measures(self, image_set: ImageSet) -> tuple[JudgeMeasure, EfficientNetMeasure]:
        """See `Suite`."""
        del image_set
        return JudgeMeasure(self.judge, self.judge_sha256), EfficientNetMeasure(self.efficientnet)

    def score(self, images: Images, intervals: bool = True) -> tuple[Score, ...]:
        """All scores of [N, 32, 32, 3] images, one per caption; intervals take some seconds."""
        if len(images) != len(self.captions):
            raise InputError(
                f"{len(images)} images given for {len(self.captions)} captions; give one image per caption"
            )
        (image_set,) = self.sets
        return self.scores({SET: {m.name: m(images, image_set.prompts) for m in self.measures(image_set)}}, intervals)

    def scores(self, values: Values, intervals: bool = True) -> tuple[Score, ...]:
        """See `Suite`."""
        reading, features_ = JudgeColumns(values[SET][JudgeMeasure.name]), values[SET][EfficientNetMeasure.name]
        sets = (
            ("judge", reading.features, self.judge_reference, FID_JUDGE, KID_JUDGE),
            ("efficientnet", features_, self.efficientnet_reference, FID_EFFICIENTNET, KID_EFFICIENTNET),
        )
        rows = []
        for name, features, reference, fid, _ in sets:
            statistics = FeatureStatistics(reference.statistics.dim).update(features)
            around = frechet_interval(features, reference.statistics.gaussian()) if intervals else None
            rows.append(self._score(f"fid_{name}", frechet_distance(statistics, reference.statistics), fid, around))
        for name, features, reference, _, kid in sets:
            if kid in self.digests:
                scale = reference.scale
                value, around = kernel_distance_with_interval(features / scale, reference.features / scale)
                rows.append(self._score(f"kid_{name}", value, kid, around))
        if PRECISION_RECALL_JUDGE in self.digests:
            shares = precision_recall(reading.features, self.judge_reference.features)
            count = len(self.captions)
            for name, share in (("precision_judge", shares.precision), ("recall_judge", shares.recall)):
                around = share_interval(round(share * count), count) if intervals else None
                rows.append(self._score(name, share, PRECISION_RECALL_JUDGE, around, higher_is_better=True))
        found, around_found = accuracies(reading.right), accuracy_intervals(reading.right) if intervals else {}
        for name, protocol in (("attributes", ATTRIBUTES_MEAN), ("all_attributes", ATTRIBUTES_ALL)):
            rows.append(self._score(name, found[name], protocol, around_found.get(name), True))
        return tuple(rows)

    def styles(self, values: Values) -> tuple[StyleMean, ...]:
        """See `Suite`."""
        del values
        return ()

    def text_fit(self, values: Values) -> TextFit:
        """See `Suite`."""
        return TextFit(
            image_set=self.sets[0],
            values=JudgeColumns(values[SET][JudgeMeasure.name]).log_probability,
            measure="the judge's mean log-probability of the caption's four attributes",
        )

    def _score(
        self,
        name: str,
        value: float,
        protocol: str,
        around: tuple[float, float] | None,
        higher_is_better: bool = False,
    ) -> Score:
        return Score(
            name=name,
            value=value,
            protocol=protocol,
            n=len(self.captions),
            reference_digest=self.digests[protocol],
            higher_is_better=higher_is_better,
            interval=around,
        )


def is_shape(text: str) -> bool:
    """Whether a prompt is a caption of the shapes domain."""
    try:
        Caption.parse(text)
    except InputError:
        return False
    return True


def real_images(captions: Sequence[Caption], seed: int) -> Images:
    """One drawn image per caption."""
    return np.asarray(draw(captions, seed, range(len(captions))))


def load_shapes_protocols(held_out: Sequence[str], judge_file: Path, count: int = IMAGES) -> ShapesProtocols:
    """Load the networks and draw the reference of `count` images, for which the evaluation captions repeat in order.

    Raises:
        InputError: there is no caption, one is not of the shapes domain, or a network is missing.
    """
    if not held_out:
        raise InputError("the list of evaluation captions is empty; give captions of the shapes domain")
    domain = [Caption.parse(text) for text in held_out]
    captions = tuple(domain[i % len(domain)] for i in range(count))
    reference = real_images(captions, REFERENCE_SEED)
    judge, efficientnet, judge_sha256 = load_judge(judge_file), EfficientNetFeatures(), sha256_file(judge_file)
    prompts = [caption.text for caption in captions]
    judge_reference = Reference(JudgeColumns(JudgeMeasure(judge, judge_sha256)(reference, prompts)).features)
    efficientnet_reference = Reference(EfficientNetMeasure(efficientnet)(reference, prompts))

    texts, images_sha256 = "\n".join(prompts), sha256_bytes(reference.tobytes())

    def digest(*parts: str) -> str:
        return hashlib.sha256("\n".join([texts, *parts]).encode()).hexdigest()

    digests = {
        FID_JUDGE: digest(images_sha256, judge_sha256),
        FID_EFFICIENTNET: digest(images_sha256, efficientnet.weights_sha256),
        ATTRIBUTES_MEAN: digest(judge_sha256),
        ATTRIBUTES_ALL: digest(judge_sha256),
    }
    if count > NEIGHBOURS:
        digests[PRECISION_RECALL_JUDGE] = digests[FID_JUDGE]
    if judge_reference.has_kernel_distance:
        digests |= {KID_JUDGE: digests[FID_JUDGE], KID_EFFICIENTNET: digests[FID_EFFICIENTNET]}
    return ShapesProtocols(
        captions=captions,
        judge=judge,
        judge_sha256=judge_sha256,
        efficientnet=efficientnet,
        judge_reference=judge_reference,
        efficientnet_reference=efficientnet_reference,
        digests=digests,
    )
