"""The bundled judge on drawn images, and on what is none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from sidlsg.bundled.domains import SCENES, SHAPES
from sidlsg.bundled.judge import Judge, load_judge
from sidlsg.bundled.scenes import drawing as scenes
from sidlsg.bundled.shapes.captions import ATTRIBUTES, all_captions
from sidlsg.bundled.shapes.drawing import draw
from sidlsg.evaluate.weights import check_judge
from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import save_tensors
from sidlsg.storage.uri import SCENES_JUDGE, resolve
from sidlsg.teacher.images import pixels_of

# Neither a training stream nor a reference set is drawn from this seed.
FRESH = 77_000_001


def read(judge: Judge, images: np.ndarray) -> np.ndarray:
    """[N, 4] labels, by pixel values computed here."""
    pixels = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    logits = judge(pixels)
    return np.stack([logits[name].argmax(1).numpy() for name in ATTRIBUTES], 1)


def test_the_bundled_judge_reads_fresh_images_of_every_caption(judge: Judge) -> None:
    captions = [caption for caption in all_captions() for _ in range(2)]
    right = read(judge, draw(captions, FRESH, range(len(captions)))) == [caption.labels for caption in captions]
    assert (right.mean(0) >= 0.999).all()


@pytest.mark.parametrize(("jitter", "offset"), [(0.10, 6.0), (0.14, 9.0)])
def test_the_judge_of_scenes_reads_sizes_and_positions_that_it_never_saw(
    jitter: float, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Training had figures within 10 % of a size word's radius and within 6 pixels of the middle.
    monkeypatch.setattr(scenes, "RADIUS_JITTER", jitter)
    monkeypatch.setattr(scenes, "MAX_OFFSET", offset)
    captions = SCENES.held_out_captions()[::2]
    pixels = pixels_of(SCENES.draw(captions, FRESH, range(len(captions))))
    logits = load_judge(resolve(SCENES_JUDGE), SCENES)(pixels)
    found = torch.stack([logits[name].argmax(1) for name in SCENES.attributes], 1)
    right = SCENES.right(found, torch.tensor([caption.labels for caption in captions]))
    assert (right.float().mean(0) >= 0.995).all()


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_image_is_not_read_as_everything_right(judge: Judge, grey: int) -> None:
    captions = all_captions()
    right = read(judge, np.full((len(captions), 32, 32, 3), grey, np.uint8)) == [c.labels for c in captions]
    # One answer for all images is right as often as chance has it.
    assert right.all(1).sum() <= 1
    assert right.mean() < 0.25


def test_features_are_64_wide_and_carry_the_logits(judge: Judge) -> None:
    pixels = torch.rand(3, 3, 32, 32) * 2 - 1
    features = judge.features(pixels)
    assert features.shape == (3, 64)
    logits, direct = judge.logits(features), judge(pixels)
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        name: (3, len(values)) for name, values in ATTRIBUTES.items()
    }
    assert all(torch.equal(logits[name], direct[name]) for name in ATTRIBUTES)


def test_a_loaded_judge_is_frozen_in_float32(judge: Judge) -> None:
    assert not judge.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in judge.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_judge_of_any_precision_passes_the_check_of_its_file(
    judge: Judge, dtype: torch.dtype, tmp_path: Path
) -> None:
    path = tmp_path / "judge.safetensors"
    save_tensors(path, {name: tensor.to(dtype) for name, tensor in judge.state_dict().items()}, {})
    check_judge(path)
    assert load_judge(path, SHAPES).state_dict().keys() == judge.state_dict().keys()


def test_the_judge_of_scenes_passes_the_check_and_is_no_judge_of_shapes() -> None:
    path = resolve(SCENES_JUDGE)
    check_judge(path)
    with pytest.raises(InputError, match="another network than the judge of shapes"):
        load_judge(path, SHAPES)


@pytest.mark.parametrize("read_file", [partial(load_judge, domain=SHAPES), check_judge])
def test_a_file_that_is_no_judge_is_refused_with_one_line(
    read_file: Callable[[Path], object], tmp_path: Path, judge: Judge, judge_file: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_tensors(other, {"weight": torch.zeros(2)}, {})
    wider = tmp_path / "wider.safetensors"
    save_tensors(wider, judge.state_dict() | {"penultimate.0.bias": torch.zeros(65)}, {})
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(judge_file.read_bytes()[:1000])
    for path, said in (
        (other, "holds another network"),
        (wider, "holds another network"),
        (damaged, "not a readable safetensors file"),
        (tmp_path / "none.safetensors", "no such file"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_file(path)
        assert "\n" not in str(caught.value)
