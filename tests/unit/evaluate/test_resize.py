"""Resizing, pinned by pixels that were worked out by hand from the filters' formulas."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sidlsg.evaluate.resize import centre_square, clean_299, padded_square, to_256


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def columns(values: np.ndarray) -> Image.Image:
    """A 256 × 256 grey image of these columns."""
    return Image.fromarray(np.broadcast_to(values.astype(np.uint8)[None, :, None], (256, 256, 3)).copy())


def numbered(width: int, height: int) -> Image.Image:
    """Red is the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "first"),
    [((6, 4), (1, 0)), ((4, 6), (0, 1)), ((5, 4), (0, 0)), ((7, 4), (2, 0)), ((4, 7), (0, 2)), ((4, 4), (0, 0))],
)
def test_the_centre_square(size: tuple[int, int], first: tuple[int, int]) -> None:
    """A rest of 1 leaves 0 pixels on the first side, a rest of 3 leaves 2: 0.5 and 1.5 are rounded to even."""
    found = np.asarray(centre_square(numbered(*size)))
    side = min(size)
    assert found.shape == (side, side, 3)
    assert tuple(found[0, 0, :2]) == first
    assert tuple(found[-1, -1, :2]) == (first[0] + side - 1, first[1] + side - 1)


def test_the_clean_resize_is_the_cubic_kernel_without_rounding() -> None:
    # A line of 100 in column 120, on 0. Column j of 299 looks at (j + 1/2) · 256/299 - 1/2 of 256.
    values = np.zeros(256)
    values[120] = 100
    found = clean_299(columns(values))
    assert found.shape == (3, 299, 299)
    assert found.dtype == np.float32
    for j in (138, 139, 140, 141, 142):
        centre = (j + 0.5) * 256 / 299 - 0.5
        near = np.arange(256)
        weights = np.array([cubic(centre - i) for i in near])
        expected = max(0.0, 100 * weights[120] / weights.sum())
        assert found[0, 150, j] == pytest.approx(expected, abs=2e-4)
    # j = 140 in full: centre 140.5 · 256/299 - 0.5 = 119.7943, so x = 0.2057: 1.5 x³ - 2.5 x² + 1 = 0.9073.
    assert found[1, 7, 140] == pytest.approx(90.73, abs=0.01)
    assert found[1, 7, 140] != round(float(found[1, 7, 140]))


def test_what_overshoots_is_cut_to_the_range() -> None:
    found = clean_299(columns(np.where(np.arange(256) < 128, 0, 255)))
    assert (found.min(), found.max()) == (0, 255)
    soft = clean_299(columns(np.where(np.arange(256) < 128, 100, 200)))
    # The kernel's negative lobes overshoot an edge on both sides, where there is room.
    assert soft.min() < 97
    assert soft.max() > 203


def test_lanczos_halves_a_checkerboard_of_two_pixels() -> None:
    # 512 to 256: each new pixel's centre lies between two old ones, 0.5, 1.5, … old pixels away on either side.
    def lanczos(x: float) -> float:
        return float(np.sinc(x) * np.sinc(x / 3)) if abs(x) < 3 else 0.0

    line = np.zeros(512)
    line[256] = 200
    image = Image.fromarray(np.broadcast_to(line.astype(np.uint8)[None, :, None], (512, 512, 3)).copy())
    found = np.asarray(to_256(image))
    assert found.shape == (256, 256, 3)
    offsets = (np.arange(512) + 0.5) / 2 - 0.5
    for j in (126, 127, 128, 129, 130):
        weights = np.array([lanczos(offset - j) for offset in offsets])
        assert found[100, j, 0] == pytest.approx(max(0.0, 200 * weights[256] / weights.sum()), abs=0.51)


def test_what_has_256_pixels_stays() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8))
    assert np.array_equal(np.asarray(to_256(image)), np.asarray(image))


def test_a_wide_image_gets_black_above_and_below() -> None:
    found = np.asarray(padded_square(Image.new("RGB", (100, 50), (200, 100, 50)), 224))
    assert found.shape == (224, 224, 3)
    assert (found[:56] == 0).all()
    assert (found[56:168] == (200, 100, 50)).all()
    assert (found[168:] == 0).all()
