"""What an evaluation computes of a few fixed images and features: what `sidlsg.evaluate.NUMERICS` has the versions of.

After a wanted change: raise the version, then `python tests/unit/evaluate/numerics.py` writes numerics.json.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.judge import load_judge
from sidlsg.bundled.measures import EfficientNetMeasure, JudgeMeasure, accuracies, accuracy_intervals
from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.evaluate import NUMERICS
from sidlsg.evaluate.clip_networks import insert_prefix
from sidlsg.evaluate.distances import frechet_interval, random_groups
from sidlsg.evaluate.feature_files import FeatureSet, Source
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.kid import kernel_distance, squared_mmds_without
from sidlsg.evaluate.networks import EfficientNetFeatures, InceptionFeatures
from sidlsg.evaluate.precision_recall import precision_recall
from sidlsg.evaluate.published import PROTOCOLS, STYLES, Resize, preference_table
from sidlsg.evaluate.published_suite import compare
from sidlsg.evaluate.resize import padded_square, to_256
from sidlsg.teacher.images import Images
from sidlsg.teacher.sampling import Setting, StockSampler
from unit.evaluate.standin import StandIn
from unit.golden_numbers import Numbers, remake

FILE = Path(__file__).with_name("numerics.json")
COMMAND = "python tests/unit/evaluate/numerics.py"
ASSETS = Path(__file__).parents[3] / "assets"
TEXTS = [caption.text for caption in held_out_captions()[:6]]


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, the same with any version of any library that promises to keep its bit streams."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(shape))


def images(side: int = 32) -> Images:
    """[6, side, side, 3] of coloured squares."""
    coarse = np.random.Generator(np.random.Philox(1)).integers(0, 256, (len(TEXTS), 8, 8, 3), np.uint8)
    return coarse.repeat(side // 8, 1).repeat(side // 8, 2)


def summary(values: Any) -> list[float]:
    """Mean, mean square, and the sum along a fixed direction."""
    flat = torch.as_tensor(values).double().flatten()
    along = flat @ torch.cos(torch.arange(len(flat)).double()) / len(flat) ** 0.5
    return [float(flat.mean()), float(flat.square().mean()), float(along)]


def sampling() -> Any:
    """The bundled teacher's, guided and not."""
    sampler = StockSampler(ASSETS / "tiny-sd", torch.device("cpu"))
    settings = (Setting(steps=2, guidance_scale=3.0), Setting(steps=1, guidance_scale=0.0))
    return [summary(sampler.pixels(TEXTS[:2], [0, 1], setting)) for setting in settings]


def judge() -> Any:
    """By column, as features, log-probabilities and answers are of unlike sizes."""
    values = JudgeMeasure(load_judge(ASSETS / "judge" / "judge.safetensors", SHAPES), "")(images(), TEXTS)
    return [summary(part) for part in values.split([64, 4, 4], 1)]


def efficientnet() -> Any:
    """Its projected features."""
    return summary(EfficientNetMeasure(EfficientNetFeatures())(images(), TEXTS))


def inception(resize: Resize) -> Any:
    """Resizing and all that comes before the network, which is a small one in the place of Inception's."""
    network = StandIn()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(normal(number, *parameter.shape) / 7)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.pt"
        torch.jit.script(network).save(str(file))  # type: ignore[no-untyped-call]
        return summary(InceptionFeatures(file, resize)(images(320)[:2, :, :300], ["", ""]))


def clip() -> Any:
    """What comes before the network, which needs a library that is not always there."""
    tokens = torch.tensor([[49406, 7, 8, 9, 49407, 0, 0, 0, 0]])
    pixels = np.array(to_256(Image.fromarray(images(320)[0, :, :300])))
    return [insert_prefix(tokens, [320, 1125], 49407).flatten().tolist(), summary(pixels)]


def hpsv2() -> Any:
    """The same."""
    return summary(np.array(padded_square(Image.fromarray(images(320)[0, :, :300]), 224)))


def frechet() -> Any:
    """With more images than dimensions and with fewer, by both divisors."""
    ours, theirs = normal(1, 40, 8), 1.3 * normal(2, 50, 8) + 0.2
    seen, reference = (FeatureStatistics(8).update(features) for features in (ours, theirs))
    few = FeatureStatistics(8).update(ours[:5])
    distances = [frechet_distance(seen, reference), frechet_distance(few, reference)]
    distances += [frechet_distance(seen.gaussian(0), reference.gaussian(0))]
    return [distances, list(frechet_interval(ours, reference.gaussian()))]


def kernel() -> Any:
    """Means over subsets, and estimates without groups."""
    ours, theirs = normal(1, 40, 8), 1.3 * normal(2, 50, 8) + 0.2
    found = kernel_distance(ours, theirs, 0, subsets=5, size=20)
    return [found.mean, found.std, *squared_mmds_without(ours, theirs, random_groups(40))]


def manifolds() -> Any:
    """Of sets that overlap in part."""
    found = precision_recall(1.5 * normal(1, 60, 3) + 0.7, normal(2, 80, 3))
    return [found.precision, found.recall]


def mean_score(protocol: str) -> Any:
    """Of a protocol without a reference, and its interval."""
    chosen = replace(PROTOCOLS[protocol], images=None)
    source = Source(space=chosen.space, network_sha256="", images_sha256="")
    (score,) = compare(FeatureSet(features=normal(1, 40, 1), source=source), None, chosen)
    return [score.value, *(score.interval or ())]


def preference() -> Any:
    """HPSv2's table."""
    table = preference_table({style: normal(n, 20).tolist() for n, style in enumerate(STYLES)}, 20)
    rows = [[row.mean, row.deviation] for row in table.styles.values()]
    return [rows, table.average, mean_score("hpsv2/v2.1")]


def attributes() -> Any:
    """Shares of right answers, and their intervals."""
    right = normal(1, 40, 4) > -1
    return [accuracies(right, SHAPES), {name: list(pair) for name, pair in accuracy_intervals(right, SHAPES).items()}]


MADE: dict[str, Callable[[], Any]] = {
    "sampling": sampling,
    "judge": judge,
    "efficientnet": efficientnet,
    "inception-2015-12-05/clean": lambda: inception("clean"),
    "inception-2015-12-05/inside": lambda: inception("inside"),
    "clip/vit-g-14-photo-depicts": clip,
    "hpsv2/v2.0": hpsv2,
    "hpsv2/v2.1": hpsv2,
    "frechet": frechet,
    "kernel": kernel,
    "manifolds": manifolds,
    "cosine": lambda: mean_score("clip/vit-g-14-photo-depicts"),
    "preference": preference,
    "attributes": attributes,
}
"""By name of a version."""


def version_name(name: str) -> str:
    """What a message calls it."""
    return f'sidlsg.evaluate.NUMERICS["{name}"]'


def numbers(names: Iterable[str] = tuple(MADE)) -> dict[str, Numbers]:
    """Today's."""
    return {version_name(name): Numbers(version=NUMERICS[name], values=MADE[name]()) for name in names}


if __name__ == "__main__":
    torch.set_num_threads(1)
    remake(FILE, numbers())
