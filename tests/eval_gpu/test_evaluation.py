"""A student evaluated by CLIP and HPSv2 through the whole stage, with a tiny network of open_clip's in both places."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval_gpu.tiny_clip import TinyClip
from sidlsg.evaluate import networks, published_suite
from sidlsg.evaluate import published as hpsv2
from sidlsg.evaluate.clip_networks import ClipCosine, PreferenceScore
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.published_suite import PublishedSuite
from sidlsg.evaluate.weights import WeightFile
from sidlsg.stages.evaluate import STUDENT, STUDENT_SETTING, evaluate
from sidlsg.teacher.sampling import StockSampler

try:
    import open_clip  # noqa: F401
except (ImportError, RuntimeError, OSError, AttributeError) as error:
    pytest.skip(f"open_clip cannot be imported ({error}); see `make test-eval-gpu`", allow_module_level=True)

CLIP, HPS = "clip/vit-g-14-photo-depicts", "hpsv2/v2.1"
CAPTIONS = [f"a dog number {i}" for i in range(12)]
STYLED = {style: [f"{style} of a cat, {i}" for i in range(10)] for style in hpsv2.STYLES}


def named(path: Path) -> WeightFile:
    return WeightFile(place=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def suite(tiny_clip: TinyClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedSuite:
    for name, count in ((CLIP, len(CAPTIONS)), (HPS, 40)):
        monkeypatch.setitem(PROTOCOLS, name, replace(PROTOCOLS[name], images=count))
    table = functools.partial(hpsv2.preference_table, images_a_style=10)
    monkeypatch.setattr(published_suite, "preference_table", table)
    monkeypatch.setattr(published_suite, "PROMPTS_A_STYLE", 10)
    for kind in (ClipCosine, PreferenceScore):
        monkeypatch.setattr(networks, kind.__name__, functools.partial(kind, architecture=tiny_clip.name))
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
    (tmp_path / "styled.json").write_text(json.dumps(STYLED))
    weights = {
        "captions": named(tmp_path / "captions.txt"),
        "hpsv2-prompts": named(tmp_path / "styled.json"),
        "clip-vit-g-14-laion2b-s12b-b42k": named(tiny_clip.safe),
        "hpsv2-v2.1": named(tiny_clip.nested),
    }
    return PublishedSuite([CLIP, HPS], weights, torch.device("cpu"))


def as_jpeg(image: Any) -> Any:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    return np.asarray(Image.open(buffer))


def test_a_student_is_scored_by_clip_and_hpsv2(
    suite: PublishedSuite, tiny_clip: TinyClip, tiny_student: Path, assets: Path, tmp_path: Path
) -> None:
    judge = assets / "judge" / "judge.safetensors"
    card = evaluate(
        tiny_student, assets / "tiny-sd", tmp_path / "card", CAPTIONS, judge, print, published=suite
    )  # fmt: skip
    found = card.subject(STUDENT)
    assert [(score.name, score.n) for score in found.scores] == [("clip", 12), ("hpsv2_v2_1", 40)]

    sampler = StockSampler(tiny_student)
    images = sampler(CAPTIONS, range(12), STUDENT_SETTING)
    cosines = ClipCosine(tiny_clip.safe, "cpu", tiny_clip.name)(images, CAPTIONS)
    assert found.score("clip").value == pytest.approx(float(cosines.double().mean()), abs=1e-4)

    preference = PreferenceScore(tiny_clip.nested, "cpu", tiny_clip.name)
    means = {}
    for style, prompts in STYLED.items():
        drawn = np.stack([as_jpeg(image) for image in sampler(prompts, range(10), STUDENT_SETTING)])
        means[style] = float(preference(drawn, prompts).double().mean())
    assert {row.style: row.mean for row in found.styles} == pytest.approx(means, abs=2e-2)
    assert found.score("hpsv2_v2_1").value == pytest.approx(sum(means.values()) / 4, abs=2e-2)

    # The best and the worst are CLIP's, and the images are those of their seeds.
    order = cosines[:, 0].argsort(descending=True).tolist()
    assert {extreme.seed for extreme in card.extremes if extreme.best} == set(order[:6])
    for extreme in card.extremes:
        shown = np.asarray(Image.open(tmp_path / "card" / extreme.picture.path)).astype(int)
        assert np.abs(shown - images[extreme.seed]).max() <= 1
        assert extreme.prompt == CAPTIONS[extreme.seed]
