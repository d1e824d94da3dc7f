"""What the page's functions return: images in the page itself, their times, and messages."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.student.generation import generate
from sidlsg.runtime.errors import InputError, NotFiniteError
from sidlsg.studio import page
from sidlsg.studio.generator import Generator, Sample
from sidlsg.studio.models import Models
from sidlsg.studio.pictures import message, milliseconds, pictures
from sidlsg.studio.sources import find_student
from sidlsg.studio.turns import Turns

RED = "a large red circle on a blue background"


def images_in(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def student_html(models: Models, prompt: str = RED, seed: int | None = 7, count: int = 1, steps: int = 1) -> str:
    return page.student_pictures(models, models.first.record.digest, prompt, seed, count, steps)


def test_the_students_images_are_those_of_sidlsg_generate(models: Models, tiny_student: Path) -> None:
    html = student_html(models, count=4)
    assert "<h2>Student, 1 step</h2>" in html
    assert re.search(r"<strong>[\d.]+ m?s</strong> for 4 images", html)
    shown = images_in(html)
    assert [image.shape for image in shown] == [(256, 256, 3)] * 4
    # Enlarged by a whole number, each pixel alike.
    small = np.stack([image[::8, ::8] for image in shown])
    assert (np.repeat(np.repeat(small, 8, 1), 8, 2) == np.stack(shown)).all()
    assert np.abs(small.astype(int) - generate(tiny_student, [RED] * 4, range(7, 11)).astype(int)).max() <= 1


def test_the_teachers_time_is_beside_the_students(models: Models) -> None:
    student_html(models, count=9)
    sha256 = models.first.record.digest
    html = page.teacher_pictures(models, sha256, RED, 7, 9, 1, "4", 3.0)
    assert "<h2>Teacher, 4 steps</h2>" in html
    assert re.search(r"for 9 images, [\d.]+ times the student", html)
    assert len(images_in(html)) == 9
    assert "times" not in page.teacher_pictures(models, sha256, RED, 7, 1, 2, "1", 1.0)  # of a count not yet sampled
    assert images_in(page.teacher_pictures(models, sha256, RED, 7, 1, 1, page.OFF, 1.0)) == []


def test_a_students_pause_is_not_the_teachers_time(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = models._turns
    lent = []
    monkeypatch.setattr(type(turns), "is_wanted", True)
    monkeypatch.setattr(turns, "lend", lambda: lent.append(1000.0) or 1000.0)
    sample = models.sample_teacher(models.first.record.digest, RED, [7], page.Setting(steps=4, guidance_scale=1.0))
    assert len(lent) == 4
    assert sample.seconds < 0  # the pretended pauses are longer than the sampling


def test_mistakes_are_messages(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ({"prompt": " "}, {"seed": None}):
        with pytest.raises(InputError, match="is empty"):
            student_html(models, **given)
    called = page.shown("Student")(student_html)
    assert called(models, prompt="") == message("the prompt is empty; type one", "Student")

    def fail(*_: object) -> Sample:
        raise NotFiniteError("<not finite>")

    monkeypatch.setattr(Generator, "__call__", fail)
    assert 'role="alert">&lt;not finite&gt;<' in called(models)

    def break_(*_: object) -> Sample:
        raise RuntimeError("out of memory\nmore")

    monkeypatch.setattr(Generator, "__call__", break_)
    assert "RuntimeError: out of memory; the terminal has more" in called(models)


def test_a_prompt_that_is_cut_says_so(models: Models) -> None:
    html = student_html(models, prompt=f"{RED}, {RED}")
    assert re.search(r"The prompt has \d+ tokens, and the text encoder reads 16: its end is cut off", html)
    assert "tokens" not in student_html(models)


def test_a_student_of_several_steps_is_shown_up_to_each(tiny_student: Path, tmp_path: Path) -> None:
    found = find_student(str(tiny_student), "", tmp_path)
    record = replace(found.record, recipe_values=found.record.recipe_values | {"steps": 3})
    several = Models(replace(found, record=record), tmp_path)
    assert several.student(record.digest).steps == FewSteps.of(record).count == 3
    shown = [student_html(several, steps=steps) for steps in (1, 2, 3, 4)]
    titles = [re.search("<h2>(.*)</h2>", html)[1] for html in shown]
    assert titles == ["Student, step 1 of 3", "Student, step 2 of 3", *["Student, 3 steps"] * 2]
    first, second, *_ = (images_in(html)[0] for html in shown)
    assert (first != second).any()


@pytest.mark.parametrize(("family", "read"), [("sd", 16), ("sdxl", 16), ("sd3", None), ("sana", None), ("flux", None)])
def test_each_family_is_sampled_and_knows_how_much_it_reads(
    family: str, read: int | None, of_family: Callable[[str], Path]
) -> None:
    generator = Generator(of_family(family), "0" * 64, Turns(), first=False)
    assert generator(RED, [1, 2], page.Setting(steps=2, guidance_scale=1.0)).images.shape == (2, 32, 32, 3)
    tokens, longest = generator.cut(RED)
    assert 0 < tokens <= longest < 1000
    assert read is None or longest == read


def test_a_version_is_chosen_by_name_and_another_teachers_is_not_compared(models: Models) -> None:
    assert models.choose("tiny@champion").found.record.digest == models.first.record.digest
    with pytest.raises(InputError, match="no version or alias 'other'"):
        models.choose("tiny@other")
    assert page.listed(models) == ([models.first.name, "tiny@champion", "tiny/1"], "")
    other = replace(models.first, record=replace(models.first.record, teacher_sha256="0" * 64))
    models.found[other.record.digest] = other
    called = page.shown("Teacher")(page.teacher_pictures)
    assert "distilled from another teacher" in called(models, other.record.digest, RED, 7, 1, 1, "1", 1.0)


def test_a_registry_that_is_down_is_a_message(tiny_student: Path, tmp_path: Path) -> None:
    found = find_student(str(tiny_student), "", tmp_path)
    down = Models(found, tmp_path, tracking_uri="http://127.0.0.1:9")
    names, said = page.listed(down)
    assert names == [str(tiny_student)]
    assert "cannot be listed: no answer from the MLflow server" in said


def test_without_a_teacher_the_page_has_the_student_alone(tiny_student: Path, tmp_path: Path) -> None:
    found = find_student(str(tiny_student), "", tmp_path)
    other = replace(found, record=replace(found.record, teacher_sha256="0" * 64))
    alone = Models(other, tmp_path)
    assert "was distilled from the teacher 0000" in alone.without_teacher
    assert "Without a teacher" in str(page.build(alone).get_config_file())
    with pytest.raises(InputError, match="was distilled from the teacher 0000"):
        Models(other, tmp_path, teacher="bundled:tiny-sd")


def test_the_trainings_grids_have_the_images_seen(models: Models) -> None:
    grids = models.first.grids
    shown = [page.training_grid(models.first, at) for at in range(len(grids) + 1)]
    seen = [re.search(r"<p>([\d,]+) images? seen", each)[1] for each in shown]
    assert seen[:-1] == [f"{int(Path(ref.path).stem):,}" for ref in grids]
    assert shown[-1] == shown[-2]


def test_large_images_stay_as_they_are_and_text_is_escaped() -> None:
    sample = Sample(images=np.zeros((1, 256, 256, 3), np.uint8), seconds=0.0123)
    html = pictures("<b>", sample, [3], "<i>")
    assert images_in(html)[0].shape == (256, 256, 3)
    assert "&lt;b&gt;" in html
    assert "&lt;i&gt;" in html
    assert [milliseconds(each) for each in (0.0074, 0.084, 0.9996, 3.4)] == ["7.4 ms", "84 ms", "1000 ms", "3.4 s"]


def test_an_answer_that_was_asked_for_before_the_last_one_is_dropped(models: Models) -> None:
    events = page.build(models).fns.values()
    student = next(each.fn for each in events if each.concurrency_id == "student")
    given = (models.first.record.digest, RED, 7, 1, 1)
    last, html = student(20.0, 10.0, *given)
    assert last == 20.0
    assert images_in(html)
    last, html = student(10.0, last, *given)
    assert last == 20.0
    assert html == gr.skip()
