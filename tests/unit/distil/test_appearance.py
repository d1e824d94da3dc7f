"""Statistics of images, on the bundled teacher's own images and on ruined ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from sidlsg.distil.appearance import (
    Appearance,
    ImageStatistics,
    check_is_due,
    few_step_latents,
    teacher_images,
)
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.grids import GridSampler
from sidlsg.distil.recipes import get_recipe, recipe_with_changes
from sidlsg.teacher.images import Images, decode
from sidlsg.teacher.pipeline import Teacher, load_teacher

PROMPTS = [
    f"a {size} {colour} {shape} on a {background} background"
    for size in ("small", "large")
    for colour, shape, background in (
        ("red", "circle", "blue"),
        ("green", "cross", "white"),
        ("yellow", "ring", "black"),
        ("white", "square", "purple"),
        ("blue", "triangle", "orange"),
        ("black", "diamond", "green"),
    )
]
CELL = 4
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def teacher(assets: Path) -> Teacher:
    return load_teacher(assets / "tiny-sd")


@pytest.fixture(scope="module")
def grids(teacher: Teacher) -> GridSampler:
    states = teacher.encode(PROMPTS)

    def encode(places: Sequence[int], _: Sequence[bool]) -> tuple[Tensor, Tensor]:
        return states[list(places)], states[:1]

    return GridSampler(
        folder=None,
        vae=teacher.vae,
        schedule=teacher.schedule,
        encode=encode,
        prompt_count=len(PROMPTS),
        latent_shape=teacher.latent_shape,
        steps=FewSteps(),
        seed=0,
        at_once=16,
    )


@pytest.fixture(scope="module")
def few_steps(teacher: Teacher, grids: GridSampler) -> Images:
    return teacher_images(teacher.network, grids, teacher.encode([""]), 1.2)


@pytest.fixture(scope="module")
def one_step(teacher: Teacher, grids: GridSampler) -> Images:
    return grids.images(teacher.network)


@pytest.fixture
def appearance(few_steps: Images, one_step: Images) -> Appearance:
    return Appearance(get_recipe("tiny"), few_steps, one_step, CELL)


def test_statistics_against_numpy() -> None:
    images = RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    statistics = ImageStatistics.of(images, 4)
    pixels = images / 255
    np.testing.assert_allclose(statistics.colour[1], pixels[1].mean((0, 1)))
    np.testing.assert_allclose(statistics.contrast[1], pixels[1].std((0, 1)))
    assert statistics.clipped == pytest.approx(((images <= 2) | (images >= 253)).mean())


def test_neighbours_of_noise_do_not_correlate_and_those_of_a_ramp_do() -> None:
    noise = RNG.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    assert ImageStatistics.of(noise, 4).correlation == pytest.approx(np.zeros((4, 2)), abs=0.15)
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[None, None, :, None], (4, 64, 64, 3))
    assert (ImageStatistics.of(ramp, 4).correlation > 0.98).all()
    assert (ImageStatistics.of(np.full_like(noise, 128), 4).correlation == 1).all()


def test_distance_counts_in_the_references_spread() -> None:
    a = ImageStatistics(np.full((4, 3), 0.7), np.full((4, 3), 0.2), np.full((4, 2), 0.9), 0.0)
    b = ImageStatistics(np.tile([[0.4], [0.6]], (2, 3)), np.full((4, 3), 0.2), np.full((4, 2), 0.8), 0.0)
    # Means 0.2 apart at a spread of 0.1, which a lacks; then 0.1 apart at the least spread of 0.05.
    assert a.deviations(b) == pytest.approx({"colour": 3 * (4 + 1), "contrast": 0, "correlation": 2 * 4})
    assert set(b.deviations(b).values()) == {0}


def test_the_teachers_few_steps_follow_the_reference_scheduler(teacher: Teacher, grids: GridSampler) -> None:
    """Against diffusers' DDIM, whose steps end at the same places where these are evenly spaced alike."""
    uncond = teacher.encode([""])
    scheduler = DDIMScheduler.from_config(
        teacher.scheduler.config, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(1)
    z, cond = grids.z, grids.cond
    states = torch.cat([cond, uncond.expand_as(cond)])
    with torch.no_grad():
        t = scheduler.timesteps[0]
        a, b = teacher.network(torch.cat([z, z]), t, states).sample.chunk(2)
        expected = scheduler.step(b + 2 * (a - b), t, z).prev_sample
    torch.testing.assert_close(few_step_latents(teacher.network, grids, uncond, 2.0, 1), expected, rtol=1e-3, atol=1e-3)


def test_guidance_of_the_reference_stays_in_a_range_that_makes_images(teacher: Teacher, grids: GridSampler) -> None:
    uncond = teacher.encode([""])
    strong, cut, weak = (few_step_latents(teacher.network, grids, uncond, kappa, 2) for kappa in (50, 4.5, -1))
    assert torch.equal(strong, cut)
    assert torch.equal(weak, few_step_latents(teacher.network, grids, uncond, 1.0, 2))
    assert not torch.equal(strong, weak)


def test_few_steps_make_images_of_more_contrast_than_one(few_steps: Images, one_step: Images) -> None:
    assert few_steps.shape == one_step.shape == (36, 32, 32, 3)
    assert (
        ImageStatistics.of(few_steps, CELL).contrast.mean() > 1.1 * ImageStatistics.of(one_step, CELL).contrast.mean()
    )


def test_the_teachers_own_images_raise_no_alarm(appearance: Appearance, few_steps: Images, one_step: Images) -> None:
    half_way = ((few_steps.astype(int) + one_step) // 2).astype(np.uint8)
    for images in (few_steps, one_step, half_way, few_steps[:, :, ::-1], few_steps[:18]):
        assert appearance.check(images) == []
        assert appearance.check(images) == []


@pytest.mark.parametrize("size", [0.3, 1.0, 3.0])
def test_noise_for_latents_is_unlike_the_teachers_at_the_second_check(
    teacher: Teacher, appearance: Appearance, size: float
) -> None:
    noise = torch.randn(36, *teacher.latent_shape, generator=torch.Generator().manual_seed(0)) * size
    images = decode(teacher.vae, noise)
    first, second = appearance.check(images), appearance.check(images)
    assert [alarm.name for alarm in second] == ["pictures-unlike-teacher"]
    assert first == []
    assert "limit 5" in second[0].seen


def test_one_unlike_check_alone_raises_no_alarm(teacher: Teacher, appearance: Appearance, few_steps: Images) -> None:
    noise = decode(teacher.vae, torch.randn(36, *teacher.latent_shape, generator=torch.Generator().manual_seed(0)))
    assert [appearance.check(images) for images in (noise, few_steps, noise)] == [[], [], []]


def ruined(few_steps: Images) -> dict[str, Images]:
    strong = np.clip((few_steps.astype(float) - 128) * 8 + 128, 0, 255).astype(np.uint8)
    level = few_steps.mean((1, 2), keepdims=True)
    return {
        "pictures-noise": RNG.integers(0, 256, few_steps.shape, dtype=np.uint8),
        "pictures-one-colour": np.full_like(few_steps, 128),
        "pictures-flat": np.broadcast_to(level, few_steps.shape).astype(np.uint8),
        "pictures-alike": np.repeat(few_steps[:1], len(few_steps), 0),
        "pictures-saturated": strong,
    }


@pytest.mark.parametrize("name", ruined(np.zeros((2, 4, 4, 3), np.uint8)))
def test_ruined_images_are_named_at_the_first_check(appearance: Appearance, few_steps: Images, name: str) -> None:
    (alarm,) = appearance.check(ruined(few_steps)[name])
    assert alarm.name == name
    assert "limit" in alarm.seen
    assert "learning rate is too high (lr = 0.0005" in alarm.cause
    assert "newest grid" in alarm.advice


def test_guidance_is_blamed_where_it_is_strong(few_steps: Images, one_step: Images) -> None:
    strong = recipe_with_changes("tiny", '{"strategy": "long", "scales": {"kappa4": 50}}')
    (alarm,) = Appearance(strong, few_steps, one_step, CELL).check(np.full_like(few_steps, 128))
    assert "kappa4 = 50" in alarm.cause


def test_checks_are_due_early_and_at_later_grids() -> None:
    assert [i for i in range(300) if check_is_due(i, {0, 4, 16, 260})] == [10, 16, 25, 50, 100, 260]
