from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sidlsg.distil.student.generation import generate
from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.storage.records import Student
from sidlsg.teacher.sampling import seeded_noise

PROMPT = "a small red circle on a blue background"


def test_images_do_not_depend_on_the_batch(tiny_student: Path) -> None:
    together = generate(tiny_student, [PROMPT] * 3, [5, 6, 7], batch=3)
    apart = generate(tiny_student, [PROMPT] * 3, [5, 6, 7], batch=1)
    assert together.shape == (3, 32, 32, 3)
    # Rounding to 8 bits may differ by one where float32 sums run in another order.
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1
    assert np.abs(together[0].astype(int) - together[1].astype(int)).max() > 1


def test_more_steps_generate_another_image(tiny_student: Path) -> None:
    one, two = (generate(tiny_student, [PROMPT], [5], steps=steps) for steps in (1, 2))
    assert not np.array_equal(one, two)


@pytest.fixture
def of_four_steps(tiny_student: Path, tmp_path: Path) -> Path:
    """The tiny student as one of four steps."""
    shutil.copytree(tiny_student, tmp_path / "student")
    student = Student.load(tiny_student)
    values = student.recipe_values | {"steps": 4, "step_noise": "ddim"}
    dataclasses.replace(student, recipe_values=values).save(tmp_path / "student")
    return tmp_path / "student"


def test_a_student_takes_its_own_steps_and_others_with_a_warning(
    of_four_steps: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = generate(of_four_steps, [PROMPT], [5])
    assert "made for" not in capsys.readouterr().err
    assert np.array_equal(own, generate(of_four_steps, [PROMPT], [5], steps=4))
    assert "made for" not in capsys.readouterr().err
    one = generate(of_four_steps, [PROMPT], [5], steps=1)
    assert "1 steps: this student is made for 4" in capsys.readouterr().err
    assert np.array_equal(one, generate(tiny_student, [PROMPT], [5]))
    assert not np.array_equal(own, one)
    # `ddim` needs no noise but the first; a student of one step refines with fresh noise.
    assert not np.array_equal(own, generate(tiny_student, [PROMPT], [5], steps=4))


@pytest.mark.parametrize("steps", [0, 626])
def test_steps_out_of_range_are_refused(tiny_student: Path, steps: int) -> None:
    with pytest.raises(InputError, match=f"steps is {steps}; allowed: 1 to t_init = 625"):
        generate(tiny_student, [PROMPT], [0], steps=steps)


def test_a_folder_without_a_students_record_is_refused(assets: Path) -> None:
    with pytest.raises(InputError, match="no Student record"):
        generate(assets / "tiny-sd", [PROMPT], [0])


def test_each_image_has_the_noise_of_its_own_seed() -> None:
    several = seeded_noise([3, 4], (4, 8, 8), steps=2)
    assert several.shape == (2, 2, 4, 8, 8)
    assert (several[:, 1] == seeded_noise([4], (4, 8, 8), steps=2)[:, 0]).all()


def test_latents_that_are_not_finite_are_an_error_and_not_a_black_image(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sidlsg.distil.student.generation.generate_latents", lambda *_, **__: torch.full((1, 4, 8, 8), math.inf)
    )
    with pytest.raises(SidlsgError, match=r"images that are not finite$"):
        generate(tiny_student, ["a"], [0])
