"""The embedded protocols: what is drawn, how many, against which reference, read by which network.

Their names never look like those of published protocols: a number under them compares with nothing but itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sidlsg.errors import InputError
from sidlsg.evaluate.efficientnet import EfficientNetFeatures
from sidlsg.evaluate.fid import FeatureStatistics
from sidlsg.evaluate.judge import FEATURE_WIDTH, Judge, load_judge
from sidlsg.evaluate.metrics import AttributeAccuracy, FrechetDistance
from sidlsg.records import Score
from sidlsg.shapes.captions import Caption
from sidlsg.shapes.draw import draw
from sidlsg.storage import sha256_bytes, sha256_file
from sidlsg.teacher.images import Images, pixels_of

IMAGES = 2016
"""Generated images, and reference images: 21 of each of the 96 held-out captions."""
REFERENCE_SEED = 1_000_001
FLOOR_SEED = 1_000_002
"""A second set of real images: its distance to the first is the floor."""

FID_JUDGE = "fid/shapes-judge64-2016"
FID_EFFICIENTNET = "fid/shapes-efficientnet-lite0-64-2016"
ATTRIBUTES_MEAN = "attributes/shapes-judge-mean-2016"
ATTRIBUTES_ALL = "attributes/shapes-judge-all-2016"


@dataclass(frozen=True)
class ShapesProtocols:
    """Everything that the shapes domain's scores need, loaded once."""

    captions: tuple[Caption, ...]
    """One a generated image: image i is drawn for caption i with seed i."""
    judge: Judge
    efficientnet: EfficientNetFeatures
    judge_reference: FeatureStatistics
    efficientnet_reference: FeatureStatistics
    digests: dict[str, str]
    """Reference digest by protocol: captions, reference images and network."""

    @property
    def prompts(self) -> list[str]:
        """The text of each caption."""
        return [caption.text for caption in self.captions]

    def score(self, images: Images) -> tuple[Score, ...]:
        """All scores of one image a caption.

        Raises:
            InputError: there are more or fewer images than captions.
        """
        if len(images) != len(self.captions):
            raise InputError(f"{len(images)} images given for {len(self.captions)} captions; draw one image a caption")
        fid_judge = FrechetDistance(self.judge.features, self.judge_reference)
        fid_efficientnet = FrechetDistance(self.efficientnet, self.efficientnet_reference)
        accuracy = AttributeAccuracy(self.judge)
        for start in range(0, len(images), 128):
            pixels = pixels_of(images[start : start + 128])
            fid_judge.update(pixels)
            fid_efficientnet.update(pixels)
            accuracy.update(pixels, self.captions[start : start + 128])
        attributes = accuracy.compute()
        rows = (
            ("fid_judge", fid_judge.compute(), FID_JUDGE, False),
            ("fid_efficientnet", fid_efficientnet.compute(), FID_EFFICIENTNET, False),
            ("attributes", attributes["attributes"], ATTRIBUTES_MEAN, True),
            ("all_attributes", attributes["all_attributes"], ATTRIBUTES_ALL, True),
        )
        return tuple(
            Score(
                name=name,
                value=value,
                protocol=protocol,
                n=len(images),
                reference_digest=self.digests[protocol],
                higher_is_better=higher,
            )
            for name, value, protocol, higher in rows
        )

    def is_comparable(self, score: Score) -> bool:
        """Whether a stored score was made under this very protocol, count and reference."""
        return score.n == len(self.captions) and self.digests.get(score.protocol) == score.reference_digest


def real_images(captions: Sequence[Caption], seed: int) -> Images:
    """One drawn image a caption."""
    return np.asarray(draw(captions, seed, range(len(captions))))


def load_shapes_protocols(held_out: Sequence[str], judge_file: Path, count: int = IMAGES) -> ShapesProtocols:
    """Load the networks and draw the reference.

    Args:
        held_out: the evaluation captions; they repeat in order until there are `count`.
        judge_file: the judge's safetensors file.
        count: how many images.

    Raises:
        InputError: there is no caption, one is not of the shapes domain, or a network is missing.
    """
    if not held_out:
        raise InputError("the list of evaluation captions is empty; give captions of the shapes domain")
    domain = [Caption.parse(text) for text in held_out]
    captions = tuple(domain[i % len(domain)] for i in range(count))
    reference = real_images(captions, REFERENCE_SEED)
    judge, efficientnet = load_judge(judge_file), EfficientNetFeatures()
    judge_reference = FeatureStatistics(FEATURE_WIDTH)
    efficientnet_reference = FeatureStatistics(efficientnet.projection.shape[1])
    for start in range(0, count, 128):
        pixels = pixels_of(reference[start : start + 128])
        judge_reference.update(judge.features(pixels))
        efficientnet_reference.update(efficientnet(pixels))

    texts = "\n".join(caption.text for caption in captions)
    images_sha256, judge_sha256 = sha256_bytes(reference.tobytes()), sha256_file(judge_file)

    def digest(*parts: str) -> str:
        return hashlib.sha256("\n".join([texts, *parts]).encode()).hexdigest()

    return ShapesProtocols(
        captions=captions,
        judge=judge,
        efficientnet=efficientnet,
        judge_reference=judge_reference,
        efficientnet_reference=efficientnet_reference,
        digests={
            FID_JUDGE: digest(images_sha256, judge_sha256),
            FID_EFFICIENTNET: digest(images_sha256, efficientnet.weights_sha256),
            ATTRIBUTES_MEAN: digest(judge_sha256),
            ATTRIBUTES_ALL: digest(judge_sha256),
        },
    )
