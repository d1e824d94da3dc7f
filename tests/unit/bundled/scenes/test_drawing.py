"""Drawn scenes: what an image depends on, and that it shows what its caption says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.bundled.figures import COLOURS
from sidlsg.bundled.scenes.captions import Figure, Scene, all_captions
from sidlsg.bundled.scenes.drawing import IMAGE_SIZE, RADIUS, draw

seeds = st.integers(0, 2**63 - 1)
scenes = st.sampled_from(all_captions())
JITTER = 255 * 0.03 + 0.5  # of a colour, and of rounding


def centre_and_area(image: np.ndarray, colour: str) -> tuple[float, float, float]:
    """Where the pixels of a colour lie, and how many they are."""
    y, x = np.nonzero((np.abs(image.astype(float) - COLOURS[colour]) <= JITTER).all(-1))
    return x.mean(), y.mean(), len(x)


@settings(deadline=None)
@given(scenes, seeds, st.integers(0, 2**40))
def test_an_image_depends_on_its_scene_seed_and_index_alone(scene: Scene, seed: int, index: int) -> None:
    alone = draw([scene], seed, [index])[0]
    assert np.array_equal(draw([all_captions()[0], scene.reversed], seed, [index + 1, index])[1], alone)
    assert alone.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert not np.array_equal(draw([scene], seed, [index + 1])[0], alone)
    assert not np.array_equal(draw([scene], seed ^ 1, [index])[0], alone)


@settings(deadline=None)
@given(scenes.filter(lambda scene: scene.first.colour != scene.second.colour), seeds)
def test_the_figures_lie_as_the_caption_says(scene: Scene, seed: int) -> None:
    image = draw([scene], seed, [0])[0]
    (x1, y1, _), (x2, y2, _) = (centre_and_area(image, figure.colour) for figure in (scene.first, scene.second))
    along, across = {
        "left of": (x2 - x1, y2 - y1),
        "right of": (x1 - x2, y2 - y1),
        "above": (y2 - y1, x2 - x1),
        "below": (y1 - y2, x2 - x1),
    }[scene.relation]
    assert along > 1.2 * abs(across)


@settings(deadline=None)
@given(scenes.filter(lambda scene: scene.first.colour != scene.second.colour), seeds)
def test_a_large_figure_covers_more_than_a_small_one_of_its_shape(scene: Scene, seed: int) -> None:
    def area(size: str) -> float:
        first = Figure(size, scene.first.colour, scene.first.shape)
        image = draw([Scene(first, scene.relation, scene.second, scene.background)], seed, [0])[0]
        return centre_and_area(image, first.colour)[2]

    assert area("large") > 1.8 * area("small")
    assert RADIUS["large"] * 0.9 > RADIUS["small"] * 1.1


@settings(deadline=None)
@given(scenes, seeds)
def test_the_edge_shows_the_background_all_around(scene: Scene, seed: int) -> None:
    image = draw([scene], seed, [0])[0].astype(float)
    for line in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert np.abs(line - COLOURS[scene.background]).max() <= JITTER
