"""Latents to images, and images to grids and files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sidlsg.runtime.errors import InputError, NotFiniteError
from sidlsg.teacher.images import decode, grid, save_png
from sidlsg.teacher.pipeline import load_pipeline


class IdentityVae:
    """Its pixels are its latents."""

    config = SimpleNamespace(scaling_factor=2.0)

    def decode(self, latents: torch.Tensor) -> Any:
        return SimpleNamespace(sample=latents)


def test_pixels_are_scaled_clamped_and_rounded() -> None:
    # Latents 2 z decode to z; z of -1, 1 is black, white; 0.003 · 127.5 + 127.5 rounds to 128.
    values = torch.tensor([-1.0, 1.0, 0.0, 0.003, -7.0, 9.0, 0.2])
    images = decode(IdentityVae(), 2 * values.view(7, 1, 1, 1).expand(7, 3, 1, 1), batch=3)
    assert images.shape == (7, 1, 1, 3)
    assert images.dtype == np.uint8
    # 127.5 itself goes to the even neighbour, as diffusers' numpy does.
    assert images[:, 0, 0, 0].tolist() == [0, 255, 128, 128, 0, 255, 153]


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_an_error_and_not_a_black_or_white_image(spoilt: float) -> None:
    latents = torch.zeros(5, 3, 2, 2)
    latents[4, 0, 0, 0] = spoilt
    with pytest.raises(NotFiniteError):
        decode(IdentityVae(), latents, batch=2)


def test_images_are_those_of_diffusers(assets: Path) -> None:
    pipeline = load_pipeline(assets / "tiny-sd")
    latents = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    stock = pipeline.image_processor.postprocess(decoded, output_type="pil")
    found = decode(pipeline.vae, latents, batch=2)
    assert np.abs(found.astype(int) - np.stack([np.asarray(image) for image in stock])).max() <= 1


def test_a_grid_goes_row_by_row_with_a_thin_gap() -> None:
    images = np.stack([np.full((2, 3, 3), 10 * (i + 1), np.uint8) for i in range(5)])
    laid = np.asarray(grid(images, columns=3))
    assert laid.shape == (2 * 3 + 1, 3 * 4 + 1, 3)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        top, left = 1 + row * 3, 1 + column * 4
        assert (laid[top : top + 2, left : left + 3] == 10 * (i + 1)).all()
        laid = laid.copy()
        laid[top : top + 2, left : left + 3] = 255
    assert (laid == 255).all()


def test_an_enlarged_grid_repeats_its_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3), dtype=np.uint8)
    small, large = np.asarray(grid(images, 2)), np.asarray(grid(images, 2, enlarge=3))
    assert np.array_equal(large, small.repeat(3, 0).repeat(3, 1))


def test_a_saved_image_can_be_read_again(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path = tmp_path / "new" / "x.png"
    save_png(Image.fromarray(pixels), path)
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        save_png(Image.fromarray(pixels), tmp_path / "file" / "x.png")
