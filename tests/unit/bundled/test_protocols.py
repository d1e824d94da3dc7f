"""The embedded protocols: what their digests stand for, and that real images score as real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.judge import load_judge
from sidlsg.bundled.protocols import (
    BASELINE_SEED,
    IMAGES,
    NAMES,
    REFERENCE_SEED,
    DomainProtocols,
    load_domain_protocols,
    real_images,
)
from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.bundled.shapes.drawing import draw
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Score
from sidlsg.storage.tensors import save_tensors
from sidlsg.teacher.images import pixels_of

OF = {score: name.format("shapes") for score, name in NAMES.items()}
OF_JUDGE = {OF[score] for score in ("fid_judge", "recall_judge", "attributes", "all_attributes")}
Load = Callable[[Sequence[str], int], DomainProtocols]
FEW = 48


def by_name(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}


@pytest.fixture(scope="module")
def few(held_out: list[str], judge_file: Path) -> DomainProtocols:
    return load_domain_protocols(SHAPES, held_out, judge_file, FEW)


def test_pixels_run_from_minus_one_to_one() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[1, 2, 3] = (255, 51, 0)
    pixels = pixels_of(images)
    assert pixels.shape == (2, 3, 4, 5)
    assert pixels.dtype == torch.float32
    assert pixels[0].unique().tolist() == [-1.0]
    assert torch.allclose(pixels[1, :, 2, 3], torch.tensor([1.0, -0.6, -1.0]))


def test_captions_repeat_in_order(load: Load) -> None:
    texts = ["a small red circle on a blue background", "a large white ring on a black background"]
    assert load(texts, 5).sets[0].prompts == (texts[0], texts[1], texts[0], texts[1], texts[0])
    assert len(held_out_captions()) * 21 == IMAGES


def test_digests_are_stable(few: DomainProtocols, load: Load, held_out: list[str]) -> None:
    assert load(held_out, FEW).digests == few.digests
    assert set(few.digests) == OF_JUDGE | {OF["fid_efficientnet"]}
    # The two distances and the accuracy stand for different references.
    assert len(set(few.digests.values())) == 3


def test_digests_tell_other_captions_and_counts(few: DomainProtocols, load: Load, held_out: list[str]) -> None:
    for changed in (load(held_out[::-1], FEW), load(held_out, FEW + 1)):
        assert all(changed.digests[name] != few.digests[name] for name in few.digests)


def test_digests_tell_another_judge_but_efficientnets_does_not(
    few: DomainProtocols, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    weights = load_judge(judge_file, SHAPES).state_dict()
    weights["heads.size.bias"] += 0.25
    save_tensors(tmp_path / "judge.safetensors", weights, {})
    other = load_domain_protocols(SHAPES, held_out, tmp_path / "judge.safetensors", FEW)
    changed = {name for name in few.digests if other.digests[name] != few.digests[name]}
    assert changed == OF_JUDGE


def test_digests_tell_other_reference_images(
    few: DomainProtocols, load: Load, held_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidlsg.bundled.protocols.REFERENCE_SEED", REFERENCE_SEED + 5)
    other = load(held_out, FEW)
    changed = {name for name in few.digests if other.digests[name] != few.digests[name]}
    assert changed == {OF[score] for score in ("fid_judge", "recall_judge", "fid_efficientnet")}


def test_the_reference_itself_has_no_distance(protocols: DomainProtocols) -> None:
    scores = by_name(protocols.score(real_images(SHAPES, protocols.captions, REFERENCE_SEED)))
    assert scores["fid_judge"].value < 1e-3
    assert scores["fid_efficientnet"].value < 1e-3


def test_real_images_score_far_better_than_those_of_other_captions(protocols: DomainProtocols) -> None:
    real = by_name(protocols.score(real_images(SHAPES, protocols.captions, BASELINE_SEED)))
    assert real["attributes"].value > 0.99
    assert real["all_attributes"].value > 0.99
    # The same images under shuffled captions: the distances do not care, the accuracies do.
    order = np.random.default_rng(0).permutation(len(protocols.captions))
    shuffled = by_name(protocols.score(real_images(SHAPES, protocols.captions, BASELINE_SEED)[order]))
    assert shuffled["attributes"].value < 0.5
    assert shuffled["all_attributes"].value < 0.1
    for name in ("fid_judge", "fid_efficientnet"):
        assert shuffled[name].value == pytest.approx(real[name].value, rel=1e-3)


def test_images_of_another_world_are_far_away(protocols: DomainProtocols) -> None:
    real = by_name(protocols.score(real_images(SHAPES, protocols.captions, BASELINE_SEED)))
    noise = np.random.default_rng(1).integers(0, 256, (len(protocols.captions), 32, 32, 3), dtype=np.uint8)
    red = draw([protocols.captions[0]] * len(protocols.captions), 3, range(len(protocols.captions)))
    for images in (noise, red):
        far = by_name(protocols.score(images))
        for name in ("fid_judge", "fid_efficientnet"):
            assert far[name].value > 2 * real[name].value


def test_scores_carry_their_protocol(protocols: DomainProtocols) -> None:
    scores = protocols.score(real_images(SHAPES, protocols.captions, BASELINE_SEED))
    assert [(s.name, s.protocol, s.higher_is_better) for s in scores] == [
        ("fid_judge", "fid/shapes-judge64-2016", False),
        ("fid_efficientnet", "fid/shapes-efficientnet-lite0-64-2016", False),
        ("precision_judge", "pr/shapes-judge64-k3-2016", True),
        ("recall_judge", "pr/shapes-judge64-k3-2016", True),
        ("attributes", "attributes/shapes-judge-mean-2016", True),
        ("all_attributes", "attributes/shapes-judge-all-2016", True),
    ]
    assert {score.n for score in scores} == {len(protocols.captions)}
    assert all(score.reference_digest == protocols.digests[score.protocol] for score in scores)


def test_scores_say_how_sure_they_are(protocols: DomainProtocols) -> None:
    images = real_images(SHAPES, protocols.captions, BASELINE_SEED)
    for score in protocols.score(images):
        assert score.interval is not None
        low, high = score.interval
        assert low <= score.value <= high
        assert low < high or score.value == 1
    assert [score.interval for score in protocols.score(images, intervals=False)] == [None] * 6
    assert protocols.score(images) == protocols.score(images)


def test_with_enough_images_there_are_kernel_distances_too(
    load: Load, held_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidlsg.evaluate.distances.SUBSET_SIZE", 100)
    assert not set(load(held_out, 100).digests) & {OF["kid_judge"], OF["kid_efficientnet"]}
    enough = load(held_out, 192)
    scores = by_name(enough.score(real_images(SHAPES, enough.captions, BASELINE_SEED), intervals=False))
    assert list(scores) == ["fid_judge", "fid_efficientnet", "kid_judge", "kid_efficientnet", *list(scores)[4:]]
    red = by_name(enough.score(draw([enough.captions[0]] * 192, 3, range(192)), intervals=False))
    for name in ("kid_judge", "kid_efficientnet"):
        low, high = scores[name].interval or (0, 0)
        assert low <= scores[name].value <= high
        # Two real sets of the same captions are more alike than two of random ones, which lie 0 apart.
        assert -0.2 < scores[name].value < 0
        assert red[name].value > 10 * abs(scores[name].value)
    assert (scores["kid_judge"].protocol, scores["kid_judge"].higher_is_better) == ("kid/shapes-judge64-2016", False)
    assert scores["kid_efficientnet"].protocol == "kid/shapes-efficientnet-lite0-64-2016"


def test_unlike_counts_of_images_and_captions_are_refused(few: DomainProtocols) -> None:
    with pytest.raises(InputError, match="47 images given for 48 captions"):
        few.score(real_images(SHAPES, few.captions, BASELINE_SEED)[:-1])


def test_captions_of_another_domain_are_refused_with_one_line(load: Load) -> None:
    for texts, said in ((["a photo of a cat"], "'a photo of a cat' is not a caption like"), ([], "captions is empty")):
        with pytest.raises(InputError, match=said) as caught:
            load(texts, FEW)
        assert "\n" not in str(caught.value)
