"""Drawn shapes: what depends on what, and that an image shows what its caption says."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.bundled.figures import COLOURS, SHAPES, signed_distance
from sidlsg.bundled.shapes.captions import Caption, all_captions
from sidlsg.bundled.shapes.drawing import RADIUS, draw

seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)
captions = st.sampled_from(all_captions())
JITTER = 255 * 0.03 + 0.5  # of a colour, and of rounding

AREAS = {  # of each shape with radius 1
    "circle": math.pi,
    "square": (2 * 0.85) ** 2,
    "triangle": 3 * math.sqrt(3) / 4,  # inscribed in the unit circle
    "cross": 2 * (2 * 0.66) - 0.66**2,
    "ring": math.pi * (1 - 0.5**2),
    "diamond": 2.0,
}


def shown(image: np.ndarray, background: str) -> np.ndarray:
    """How much of each pixel the shape covers, seen from the channel where background and corner differ most."""
    corner = image[0, 0].astype(float)
    distance = np.abs(image.astype(float) - corner).max(-1)
    assert np.abs(corner - COLOURS[background]).max() <= JITTER
    return distance / distance.max()


@settings(deadline=None)
@given(captions, seeds, indices)
def test_an_image_depends_on_its_seed_and_index_alone(caption: Caption, seed: int, index: int) -> None:
    alone = draw([caption], seed, [index])[0]
    others = [all_captions()[0], caption, all_captions()[-1]]
    assert np.array_equal(draw(others, seed, [index + 1, index, index])[1], alone)
    assert alone.shape == (32, 32, 3)
    assert alone.dtype == np.uint8


@settings(max_examples=30, deadline=None)
@given(captions, seeds)
def test_images_of_other_indices_and_seeds_differ(caption: Caption, seed: int) -> None:
    images = draw([caption] * 3, seed, [0, 1, 2])
    assert len({image.tobytes() for image in images}) == 3
    assert not np.array_equal(draw([caption], seed ^ 1, [0])[0], images[0])


@settings(deadline=None)
@given(captions, seeds)
def test_the_corners_show_the_background(caption: Caption, seed: int) -> None:
    image = draw([caption], seed, [0])[0].astype(float)
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.abs(corners - COLOURS[caption.background]).max() <= JITTER
    assert (corners == corners[0]).all()


@settings(deadline=None)
@given(captions, seeds)
def test_the_shape_has_its_colour(caption: Caption, seed: int) -> None:
    image = draw([caption], seed, [0])[0].astype(float)
    # Any shape covers some pixel whole, and nothing lies further from the background than the shape's own colour.
    full = shown(image, caption.background) > 0.999
    assert full.sum() >= 5
    assert np.abs(image[full] - COLOURS[caption.colour]).max() <= JITTER


@pytest.mark.parametrize("shape", SHAPES)
def test_the_middle_of_the_shape_is_covered_and_only_the_rings_is_not(shape: str) -> None:
    caption = Caption("large", "white", shape, "black")
    for image in draw([caption] * 20, 3, range(20)):
        covered = shown(image, "black")
        rows, columns = np.nonzero(covered > 0.5)
        # The middle of the box around it; the triangle's centre lies below it, still inside.
        middle = covered[round((rows.min() + rows.max()) / 2), round((columns.min() + columns.max()) / 2)]
        assert middle == (0 if shape == "ring" else 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "radius"), [("small", 6.0), ("large", 10.5)])
def test_the_covered_area_is_the_shapes(shape: str, size: str, radius: float) -> None:
    caption = Caption(size, "white", shape, "black")
    areas = [shown(image, "black").sum() for image in draw([caption] * 200, 5, range(200))]
    # The mean of r² over ±10 % is 1 + 0.01/3; of 200 draws it is within 3 %.
    assert np.mean(areas) == pytest.approx(AREAS[shape] * radius**2, rel=0.03)
    # No image's radius is more than 10 % off; the edge's pixels add a little.
    assert math.sqrt(max(areas) / AREAS[shape]) <= 1.1 * radius * 1.03
    assert math.sqrt(min(areas) / AREAS[shape]) >= 0.9 * radius * 0.97


def test_edges_are_antialiased() -> None:
    covered = shown(draw([Caption("large", "white", "circle", "black")], 0, [0])[0], "black")
    # A circle's edge crosses about 8 r pixels; they are in between, and in many shades.
    between = covered[(covered > 0.02) & (covered < 0.98)]
    assert 40 < len(between) < 100
    assert len(np.unique(between.round(2))) > 20


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_place_moves_and_the_shape_stays_inside(size: str) -> None:
    images = draw([Caption(size, "white", "circle", "black")] * 200, 11, range(200))
    centres = []
    for image in images:
        covered = shown(image, "black")
        weight = covered / covered.sum()
        grid = np.arange(32) + 0.5
        centres.append((weight.sum(0) @ grid, weight.sum(1) @ grid))
        # What the border cut off would be missing here.
        assert covered.sum() > 0.97 * math.pi * (0.9 * RADIUS[size]) ** 2
    spread = np.abs(np.array(centres) - 16)
    assert 4.5 < spread.max() <= 5.05
    # Uniform draws over ±5, or up to the border for large shapes: the mean is about half the reach.
    assert 2.0 < spread.mean() < 2.8


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fits_its_radius(shape: str) -> None:
    angle = np.linspace(0, 2 * np.pi, 360)
    for radius in (1.0, 6.0):
        outside = signed_distance(shape, 1.21 * radius * np.cos(angle), 1.21 * radius * np.sin(angle), np.array(radius))
        assert (outside > 0).all()  # the square's corner lies at 0.85 √2 = 1.20 radii, all others at 1 or less
        middle = signed_distance(shape, np.array([0.0]), np.array([0.0]), np.array(radius))
        assert (middle > 0) == (shape == "ring")


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="'star' is unknown; allowed: circle"):
        signed_distance("star", np.zeros(1), np.zeros(1), np.ones(1))


def test_the_drawing_does_not_change() -> None:
    # The reference sets of all scores are drawn like this: other images mean other scores.
    captions = [Caption("small", "red", shape, "white") for shape in SHAPES]
    images = draw(captions, 1_000_001, range(len(SHAPES)))
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "414c409f5e6750ce07e51193fdca9577909f2ca45d8d0ae32e84d03425b7796c"
    )
