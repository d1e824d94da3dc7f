"""The evaluate stage on a real student, with few images."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sidlsg.bundled.assets import score_teacher
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.protocols import DomainProtocols, load_domain_protocols
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.student.folder import noise_scale, write_folder
from sidlsg.distil.student.generation import generate
from sidlsg.evaluate.teacher_scores import TEACHER_SETTINGS, TeacherScores
from sidlsg.runtime.errors import InputError
from sidlsg.stages import evaluate as stage
from sidlsg.stages.evaluate import evaluate
from sidlsg.storage.records import Scorecard, Student, file_ref
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.sampling import StockSampler

FEW = 40
SUBJECTS = ["teacher 20 steps", "teacher 1 step", "student 1 step", "real images"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "load_domain_protocols", functools.partial(load_domain_protocols, count=FEW))


@pytest.fixture(scope="module")
def teacher(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled teacher without the scores that its folder may hold."""
    folder = tmp_path_factory.mktemp("teacher") / "tiny-sd"
    shutil.copytree(assets / "tiny-sd", folder)
    (folder / TeacherScores.FILE).unlink(missing_ok=True)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teachers of two steps: what is tested does not hang on their quality."""
    settings = {name: (min(steps, 2), scale) for name, (steps, scale) in TEACHER_SETTINGS.items()}
    monkeypatch.setattr(stage, "TEACHER_SETTINGS", settings)
    monkeypatch.setattr("sidlsg.evaluate.teacher_scores.TEACHER_SETTINGS", settings)


@pytest.mark.usefixtures("few", "quick")
def test_student_and_teacher_are_scored_and_stored_scores_are_reused(
    tiny_student: Path, teacher: Path, held_out: list[str], judge_file: Path, tmp_path: Path, hashed: list[str]
) -> None:
    lines: list[str] = []
    card = evaluate(tiny_student, teacher, tmp_path / "card", held_out, judge_file, lines.append)
    # Models are gigabytes: what was checked once names the images of both.
    weights = [folder / "unet" / "diffusion_pytorch_model.safetensors" for folder in (teacher, tiny_student)]
    assert [hashed.count(str(path)) for path in weights] == [1, 1]
    assert Scorecard.load(tmp_path / "card") == card
    card.verify(tmp_path / "card")
    assert [subject.subject for subject in card.subjects] == SUBJECTS
    assert card.student_sha256 == Student.load(tiny_student).digest
    assert card.teacher_sha256 == folder_digest(teacher)
    assert (card.reused, lines) == ((), [])
    for subject in card.subjects:
        assert [score.name for score in subject.scores] == [
            "fid_judge",
            "fid_efficientnet",
            "precision_judge",
            "recall_judge",
            "attributes",
            "all_attributes",
        ]
        assert {score.n for score in subject.scores} == {FEW}
    assert card.subject("real images").score("attributes").value > 0.99
    assert [ref.path for ref in card.grids] == [f"grids/{name.replace(' ', '_')}.png" for name in SUBJECTS]
    sizes = {Image.open(tmp_path / "card" / ref.path).size for ref in card.grids}
    assert sizes == {(6 * 33 + 1, 6 * 33 + 1)}
    assert len(set(card.grid_prompts)) == 36
    assert set(card.grid_prompts) <= set(held_out)

    # Stored scores are distinguished from computed ones by a number that no evaluation gives.
    marked = tmp_path / "teacher"
    shutil.copytree(teacher, marked)
    first = card.subject("teacher 20 steps")
    scores = tuple(replace(score, value=0.123) for score in first.scores)
    changed = replace(first, scores=scores)
    TeacherScores(teacher_sha256=card.teacher_sha256, subjects=(changed,)).save(marked)
    again = evaluate(tiny_student, marked, tmp_path / "card", held_out, judge_file, lines.append)
    assert again.reused == ("teacher 20 steps",)
    assert "teacher 20 steps" in lines[0]
    assert again.subject("teacher 20 steps") == changed
    for name in SUBJECTS[1:]:
        assert again.subject(name) == card.subject(name)
    # The grid shows the same pictures, drawn from the same seeds.
    assert [ref.path for ref in again.grids] == [ref.path for ref in card.grids]


@pytest.mark.usefixtures("few", "quick")
@pytest.mark.parametrize("noise", [pytest.param("fresh", marks=pytest.mark.long), "ddim"])
def test_a_student_of_several_steps_is_scored_in_its_own(
    tiny_student: Path, teacher: Path, held_out: list[str], judge_file: Path, tmp_path: Path, noise: str
) -> None:
    record = Student.load(tiny_student)
    few = tmp_path / "student"
    shutil.copytree(tiny_student, few)
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(few / name)
    (tmp_path / "made").mkdir()
    loaded = load_teacher(tiny_student)
    files = write_folder(
        replace(loaded, folder=tiny_student, scheduler=load_teacher(teacher).scheduler),
        loaded.network,
        FewSteps(count=3, noise=noise),
        "float32",
        tmp_path / "made",
    )
    shutil.copytree(tmp_path / "made", few, dirs_exist_ok=True)
    values = record.recipe_values | {"steps": 3, "step_noise": noise}
    model = tuple(file_ref(few / path.relative_to(tmp_path / "made"), few) for path in files)
    replace(record, recipe_values=values, model=model).save(few)

    card = evaluate(few, teacher, tmp_path / "card", held_out, judge_file, print)
    assert [subject.subject for subject in card.subjects] == [*SUBJECTS[:2], "student 3 steps", SUBJECTS[3]]
    assert card.subject("student 3 steps").steps == 3
    grids = [Path(ref.path).stem for ref in card.grids]
    assert grids[2:5] == ["student_step_1_of_3", "student_step_2_of_3", "student_3_steps"]
    # The images are those of the native sampler, and of its first step.
    sampler = StockSampler(few)
    settings = stage.student_settings(Student.load(few), noise_scale(sampler.pipeline.scheduler))
    first, *_, last = settings.values()
    for setting, folder in ((last, few), (first, tiny_student)):
        found = sampler(held_out[:2], [3, 4], setting).astype(int)
        assert np.abs(found - generate(folder, held_out[:2], [3, 4]).astype(int)).max() <= 1


@pytest.mark.usefixtures("quick")
def test_a_teacher_is_scored_at_every_setting(
    teacher: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    protocols: DomainProtocols = load_domain_protocols(SHAPES, held_out, judge_file, 4)
    subjects = score_teacher(teacher, protocols, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    assert [s.subject for s in subjects] == [*TEACHER_SETTINGS, "real images"]
    assert all(len(s.scores) == 6 for s in subjects)


def test_an_output_folder_that_holds_something_else_is_refused_before_anything_is_read(
    assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        evaluate(tmp_path / "none", assets / "tiny-sd", tmp_path, held_out, judge_file, print)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("damage", ["changed", "missing", "no record"])
def test_a_damaged_student_is_refused(
    tiny_student: Path, assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path, damage: str
) -> None:
    student = tmp_path / "student"
    shutil.copytree(tiny_student, student)
    weights = student / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    else:
        (weights if damage == "missing" else student / Student.FILE).unlink()
    said = {"changed": "was changed or damaged", "missing": "is missing", "no record": "no Student record"}[damage]
    with pytest.raises(InputError, match=said):
        evaluate(student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print)
    assert not (tmp_path / "card").exists()


def test_another_teacher_than_the_students_is_refused(
    tiny_student: Path, teacher: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "teacher"
    shutil.copytree(teacher, other)
    config = other / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(InputError, match="give the teacher that the student came from"):
        evaluate(tiny_student, other, tmp_path / "card", held_out, judge_file, print)
    assert not (tmp_path / "card").exists()


@pytest.mark.usefixtures("few")
def test_a_teacher_of_another_size_is_refused(
    tiny_student: Path,
    assets: Path,
    held_out: list[str],
    judge_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage.StockSampler, "image_size", 512)
    with pytest.raises(InputError, match="images of 512 pixels a side, and the bundled domains have 32"):
        evaluate(tiny_student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print)
    assert not (tmp_path / "card").exists()
