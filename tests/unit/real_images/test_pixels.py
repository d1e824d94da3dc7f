from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sidlsg.real_images.pixels import SmallImageError, UnusableImageError, square
from unit.real_images.conftest import PNGS, png


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_an_image_of_the_resolution_stays_as_it_is() -> None:
    assert np.array_equal(square(PNGS[0], 32), np.asarray(Image.open(io.BytesIO(PNGS[0]))))


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64), (96, 64), (33, 32)])
def test_the_centre_is_kept(width: int, height: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 255
    found = square(png(pixels), 32)
    assert found.shape == (32, 32, 3)
    assert (found[15:17, 15:17] > 200).all()
    assert abs(int(found[:, :16].sum()) - int(found[:, 16:].sum())) < 0.1 * found.sum()


def test_shrinking_averages() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    middle = square(png(stripes), 32)[8:24, 8:24]
    assert np.abs(middle.astype(int) - 127).max() < 12


def test_an_image_is_turned_upright() -> None:
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[:, :20] = 255  # left; the tag says that it is to be turned by 90 degrees to the right, so it is on top
    exif = Image.Exif()
    exif[0x0112] = 6
    found = square(encoded(Image.fromarray(pixels), exif=exif), 32)
    assert found[:10].min() == 255
    assert found[-10:].max() == 0


def test_transparency_is_white_and_grey_becomes_colour() -> None:
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert square(encoded(clear), 32).min() == 255
    assert square(encoded(Image.new("L", (32, 32), 7)), 32).max() == 7
    assert square(encoded(Image.new("CMYK", (32, 32)), "JPEG"), 32).shape == (32, 32, 3)


def test_a_smaller_image_is_refused() -> None:
    with pytest.raises(SmallImageError, match="31 × 64 pixels"):
        square(encoded(Image.new("RGB", (31, 64))), 32)


@pytest.mark.parametrize("data", [b"", b"text", PNGS[0][:200], PNGS[0][:-40]])
def test_a_damaged_image_is_refused(data: bytes) -> None:
    with pytest.raises(UnusableImageError):
        square(data, 32)
