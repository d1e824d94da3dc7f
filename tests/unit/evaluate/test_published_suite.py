"""Published protocols in one pass: what is asked for before anything is drawn, and scores that are the plain ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sidlsg.evaluate import published_suite
from sidlsg.evaluate.distances import random_groups
from sidlsg.evaluate.feature_files import FeatureSet, Source, save_features, save_statistics
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.kid import kernel_distance
from sidlsg.evaluate.networks import InceptionFeatures, NetworkMeasure
from sidlsg.evaluate.precision_recall import precision_recall
from sidlsg.evaluate.published import PROTOCOLS, STYLES, Protocol
from sidlsg.evaluate.published_suite import PublishedSuite, read_style_prompts
from sidlsg.evaluate.suite import ImageBatch
from sidlsg.evaluate.weights import WeightFile
from sidlsg.runtime.errors import InputError
from unit.evaluate.standin import save_stand_in, sha256

FID, SID, CLIP = "fid/coco2014-30k-clean", "fid/coco2014-30k-sid-train", "clip/vit-g-14-photo-depicts"
KID, PR, HPS = "kid/inception-poly3", "pr/inception-k3", "hpsv2/v2.1"
COUNT, REFERENCES = 24, 30
CPU = torch.device("cpu")
Weights = dict[str, WeightFile]


class Brightness:
    """In the place of CLIP's networks: the image's mean and the prompt's length."""

    def __call__(self, images: ImageBatch, prompts: Sequence[str]) -> torch.Tensor:
        pairs = zip(images, prompts, strict=True)
        return torch.tensor([[float(image.mean()) / 255 + len(text) / 1000] for image, text in pairs])


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("network") / "inception.pt")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocols with fewer images, and intervals of two groups."""
    monkeypatch.setattr("sidlsg.evaluate.distances.random_groups", lambda count: random_groups(count, 2))
    monkeypatch.setattr("sidlsg.evaluate.distances.SUBSET_SIZE", 20)
    for name, protocol in PROTOCOLS.items():
        counts = {"images": COUNT} if protocol.images == 30_000 else {}
        counts |= {"references": REFERENCES} if protocol.references else {}
        monkeypatch.setitem(PROTOCOLS, name, replace(protocol, least=min(protocol.least, 20), **counts))
    real = published_suite.load_network

    def load(protocol: Protocol, digest: str, path: Path, device: torch.device) -> NetworkMeasure:
        if protocol.resize is None:
            return NetworkMeasure(protocol, Brightness(), digest, 1)
        return real(protocol, digest, path, device)

    monkeypatch.setattr(published_suite, "load_network", load)


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Every file that a protocol may ask for."""
    folder = tmp_path_factory.mktemp("weights")
    files = {"inception-2015-12-05": inception}
    for name, resize in (("reference-clean", "clean"), ("reference-inside", "inside")):
        features = InceptionFeatures(inception, resize)(images(REFERENCES, 7), [])  # type: ignore[arg-type]
        source = Source(space=f"inception-2015-12-05/{resize}", network_sha256=sha256(inception), images_sha256=resize)
        save_features(FeatureSet(features=features, source=source), folder / f"{name}.safetensors")
        files[name] = folder / f"{name}.safetensors"
    texts = {
        "captions": "\n".join(f"caption {i}" for i in range(COUNT)),
        "hpsv2-prompts": json.dumps({style: [f"{style} {i}" for i in range(800)] for style in STYLES}),
        "clip-vit-g-14-laion2b-s12b-b42k": "weights",
        "hpsv2-v2.1": "weights",
    }
    for name, text in texts.items():
        files[name] = folder / name
        files[name].write_text(text)
    return {name: WeightFile(place=str(path), sha256=sha256(path)) for name, path in files.items()}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("other", [[], pytest.param([SID], marks=pytest.mark.long)], ids=["one", "two"])
def test_one_pass_gives_every_protocols_scores(weights: Weights, inception: Path, other: list[str]) -> None:
    """With the features of one way of resizing, and of two."""
    suite = PublishedSuite([FID, *other, CLIP, KID, PR], weights, CPU)
    (drawn,) = suite.sets
    assert drawn.prompts == tuple(f"caption {i}" for i in range(COUNT))
    measures = suite.measures(drawn)
    # Three protocols read the same features: the network runs once for them.
    assert [measure.width for measure in measures] == [2048] * (1 + len(other)) + [1]
    ours = images(COUNT, 1)
    values = {drawn.name: {measure.name: measure(ours, drawn.prompts) for measure in measures}}
    scores = {score.name: score for score in suite.scores(values)}
    clean, inside = (InceptionFeatures(inception, resize) for resize in ("clean", "inside"))  # type: ignore[arg-type]
    mine, theirs = clean(ours, []), clean(images(REFERENCES, 7), [])
    expected = {
        "fid": frechet_distance(FeatureStatistics(2048).update(mine), FeatureStatistics(2048).update(theirs)),
        "kid": kernel_distance(mine, theirs, 0, size=20).mean,
        "precision": precision_recall(mine, theirs).precision,
        "recall": precision_recall(mine, theirs).recall,
        "clip": float(Brightness()(ours, drawn.prompts).double().mean()),
    }
    if other:
        expected["fid_sid_train"] = frechet_distance(
            FeatureStatistics(2048).update(inside(ours, [])).gaussian(0),
            FeatureStatistics(2048).update(inside(images(REFERENCES, 7), [])).gaussian(0),
        )
    assert set(scores) == set(expected)
    for name, value in expected.items():
        assert scores[name].value == pytest.approx(value, rel=1e-6), name
        assert scores[name].n == COUNT
        low, high = scores[name].interval or (1, 0)
        assert low <= scores[name].value <= high
    assert [name for name, score in scores.items() if score.higher_is_better] == ["clip", "precision", "recall"]
    assert scores["fid"].protocol == FID
    fit = suite.text_fit(values)
    assert fit is not None
    assert torch.equal(fit.values, Brightness()(ours, drawn.prompts)[:, 0])
    assert suite.styles(values) == ()


@pytest.mark.usefixtures("small")
def test_clips_reference_is_its_captions_and_its_network(weights: Weights, tmp_path: Path) -> None:
    def digest(weights: Mapping[str, WeightFile]) -> str:
        suite = PublishedSuite([CLIP], weights, CPU)
        (drawn,) = suite.sets
        values = {drawn.name: {m.name: m(images(COUNT, 1), drawn.prompts) for m in suite.measures(drawn)}}
        (score,) = suite.scores(values)
        return score.reference_digest

    other = tmp_path / "others"
    other.write_text("\n".join(f"another {i}" for i in range(COUNT)))
    network = tmp_path / "network"
    network.write_text("other weights")
    changed = (
        weights | {"captions": WeightFile(place=str(other), sha256=sha256(other))},
        weights | {"clip-vit-g-14-laion2b-s12b-b42k": WeightFile(place=str(network), sha256=sha256(network))},
    )
    digests = {digest(weights), *(digest(each) for each in changed)}
    assert len(digests) == 3
    assert digest(weights) in digests


@pytest.mark.usefixtures("small")
def test_preferences_by_style(weights: Weights) -> None:
    suite = PublishedSuite([HPS], weights, CPU)
    assert [drawn.name for drawn in suite.sets] == [f"hpsv2-{style}" for style in STYLES]
    assert {drawn.format for drawn in suite.sets} == {"jpeg"}
    assert all(len(drawn.prompts) == 800 for drawn in suite.sets)
    (measure,) = suite.measures(suite.sets[0])
    # Group g of style s has the mean 10 s + g.
    values = {
        drawn.name: {measure.name: torch.tensor([[10.0 * s + i // 80] for i in range(800)])}
        for s, drawn in enumerate(suite.sets)
    }
    (score,) = suite.scores(values)
    assert (score.name, score.n, score.value) == ("hpsv2_v2_1", 3200, pytest.approx(19.5))
    rows = suite.styles(values)
    assert [(row.style, row.mean) for row in rows] == [
        (style, pytest.approx(10 * s + 4.5)) for s, style in enumerate(STYLES)
    ]
    assert {round(row.deviation, 6) for row in rows} == {round((99 / 12) ** 0.5, 6)}
    fit = suite.text_fit(values)
    assert fit is not None
    assert fit.image_set.name == "hpsv2-photo"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("names", "lost", "said"),
    [
        ([FID], "captions", "captions is missing: "),
        ([KID], "reference-clean", "reference-clean is missing: "),
        ([HPS], "hpsv2-v2.1", "hpsv2-v2.1 is missing: "),
        (["fid/coco"], "", "is unknown"),
    ],
)
def test_missing_files_are_named_before_anything_is_sampled(
    weights: Weights, names: list[str], lost: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        PublishedSuite(names, {name: file for name, file in weights.items() if name != lost}, CPU)


@pytest.mark.usefixtures("small")
def test_files_that_do_not_fit_are_refused(weights: Weights, tmp_path: Path, inception: Path) -> None:
    def refused(said: str, protocol: str, name: str, path: Path) -> None:
        changed = weights | {name: WeightFile(place=str(path), sha256=sha256(path))}
        with pytest.raises(InputError, match=said):
            PublishedSuite([protocol], changed, CPU)

    few = tmp_path / "few.txt"
    few.write_text("one caption")
    refused("1 generated images given, and pr/inception-k3 takes 4 or more", PR, "captions", few)
    refused(r"holds 1 prompts, and fid/coco2014-30k-clean takes 24", FID, "captions", few)
    inside = Path(weights["reference-inside"].place)
    refused(r"are of .*/inside, and fid/coco2014-30k-clean takes .*/clean", FID, "reference-clean", inside)
    features = torch.rand(29, 2048)
    source = Source(space="inception-2015-12-05/clean", network_sha256=sha256(inception), images_sha256="x")
    path = tmp_path / "other.safetensors"
    save_features(FeatureSet(features=features, source=source), path)
    refused("29 reference images given, and fid/coco2014-30k-clean takes 30", FID, "reference-clean", path)
    save_features(FeatureSet(features=features, source=replace(source, network_sha256="0" * 64)), path)
    refused("was made by another file of inception-2015-12-05", KID, "reference-clean", path)
    save_statistics(FeatureStatistics(2048).update(features), source, path)
    refused("has statistics alone, and pr/inception-k3 needs each image's features", PR, "reference-clean", path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds list"),
        ('{"anime": []}', "holds anime; give a JSON object with a list for each of anime, concept-art"),
        (json.dumps({style: ["a"] for style in STYLES}), "anime in .* has 1 entries; give a list of 800 texts"),
        (json.dumps(dict.fromkeys(STYLES, 5)), "anime in .* has int"),
    ],
)
def test_style_prompts_of_another_form_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_style_prompts(path)
