"""Features block by block: what is kept, what is made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sidlsg.evaluate import image_files as extract
from sidlsg.evaluate.feature_files import FeatureSet, load_features
from sidlsg.evaluate.image_files import extract_features
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.images import Images


class Network:
    """Colour means, which counts the images that it saw and may fail at one."""

    def __init__(self, fails_at: int = -1, sha256: str = "a" * 64) -> None:
        self.seen, self.fails_at, self.sha256 = 0, fails_at, sha256

    def __call__(self, images: Sequence[Images], prompts: Sequence[str]) -> torch.Tensor:
        if 0 <= self.fails_at <= self.seen:
            raise KeyboardInterrupt
        self.seen += len(images)
        means = [image.mean((0, 1)) + len(text) for image, text in zip(images, prompts, strict=True)]
        return torch.from_numpy(np.stack(means)).float()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "BLOCK", 4)
    monkeypatch.setattr(extract, "BATCH", 3)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i:02d}.png" for i in range(10)]
    for i, path in enumerate(paths):
        Image.new("RGB", (5, 4), (10 * i, 2, 3)).save(path)
    return paths


def features(files: list[Path], network: Network, output: Path, prompts: Sequence[str] | None = None) -> FeatureSet:
    return extract_features(files, network, "means/as-they-are", output, prompts=prompts)  # type: ignore[arg-type]


def test_features_are_in_the_files_order(files: list[Path], tmp_path: Path) -> None:
    found = features(files, Network(), tmp_path / "f.safetensors")
    assert found.features.tolist() == [[10.0 * i, 2.0, 3.0] for i in range(10)]
    assert torch.equal(load_features(tmp_path / "f.safetensors").features, found.features)
    assert load_features(tmp_path / "f.safetensors").source == found.source


def test_a_call_that_was_cut_off_computes_only_the_rest_again(files: list[Path], tmp_path: Path) -> None:
    whole = features(files, Network(), tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        features(files, Network(fails_at=8), tmp_path / "f.safetensors")
    assert not (tmp_path / "f.safetensors").exists()
    again = Network()
    found = features(files, again, tmp_path / "f.safetensors")
    assert again.seen == 2
    assert found.source == whole.source
    assert (tmp_path / "f.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["image", "network", "damage"])
def test_a_block_that_was_made_from_other_inputs_is_made_again(files: list[Path], tmp_path: Path, change: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        features(files, Network(fails_at=8), tmp_path / "f.safetensors")
    again = Network()
    if change == "image":
        Image.new("RGB", (5, 4), (99, 99, 99)).save(files[5])
    elif change == "network":
        again = Network(sha256="b" * 64)
    else:
        part = tmp_path / ".f.safetensors.parts" / "000001.safetensors"
        part.write_bytes(part.read_bytes()[:50])
    found = features(files, again, tmp_path / "f.safetensors")
    assert again.seen == (10 if change == "network" else 6)
    assert found.features[5, 1] == (99 if change == "image" else 2)


def test_prompts_are_read_with_their_images(files: list[Path], tmp_path: Path) -> None:
    prompts = ["x" * i for i in range(10)]
    found = features(files, Network(), tmp_path / "f.safetensors", prompts)
    assert found.features[:, 1].tolist() == [2.0 + i for i in range(10)]
    other = features(files, Network(), tmp_path / "g.safetensors", prompts[::-1])
    assert other.source.prompts_sha256 != found.source.prompts_sha256 != ""
    with pytest.raises(InputError, match="10 images and 9 prompts"):
        features(files, Network(), tmp_path / "h.safetensors", prompts[:9])


def test_a_bad_image_leaves_no_output(files: list[Path], tmp_path: Path) -> None:
    files[9].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"09.png cannot be read"):
        features(files, Network(), tmp_path / "f.safetensors")
    assert not (tmp_path / "f.safetensors").exists()
