"""The `evaluate` stage: a student's folder and its teacher in, a scorecard out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.evaluate.protocols import FLOOR_SEED, ShapesProtocols, load_shapes_protocols, real_images
from sidlsg.evaluate.sample import StockSampler
from sidlsg.evaluate.teacher_scores import TEACHER_SETTINGS, read_teacher_scores
from sidlsg.hardware import set_threads
from sidlsg.package import code_digest
from sidlsg.randomness import counted
from sidlsg.records import FileRef, Scorecard, Student, SubjectScores, file_ref
from sidlsg.shapes.draw import IMAGE_SIZE
from sidlsg.storage import atomic_folder, refuse_foreign, refuse_inside
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.images import Images, grid, save_png

STUDENT = "student 1 step"
REAL = "real images"
COMPARED = ("teacher 20 steps", "teacher 1 step")
"""The teacher's settings that a student is shown beside."""
GRID_IMAGES = 36
GRID_COLUMNS = 6


def evaluate(
    student: Path, teacher: Path, output: Path, held_out: Sequence[str], judge: Path, report: Callable[[str], None]
) -> Scorecard:
    """Score a student, its teacher, and real images as the floor, under the embedded protocols.

    The teacher's scores are taken from `teacher_scores.json` in its folder where they were made for these very
    files under these very protocols, and are computed where not.

    Args:
        student: a student's diffusers folder.
        teacher: the folder of the teacher that it came from.
        output: receives scorecard.json and grids/.
        held_out: the evaluation prompts, of the shapes domain.
        judge: the judge's safetensors file.
        report: receives lines for the user.

    Raises:
        InputError: an input or the output folder cannot be used.
    """
    began = time.monotonic()
    refuse_foreign(output, Scorecard.FILE)
    refuse_inside(output, student=student, teacher=teacher, judge=judge)
    record = Student.load(student)
    record.verify(student)
    check_folder(teacher)
    set_threads()
    teacher_sha256 = folder_digest(teacher)
    if record.teacher_sha256 != teacher_sha256:
        raise InputError(
            f"{student} was distilled from the teacher {record.teacher_sha256[:16]}…, but {teacher} is "
            f"{teacher_sha256[:16]}…; give the teacher that the student came from"
        )
    protocols = load_shapes_protocols(held_out, judge)
    places = sorted(counted(0, "evaluate/grid").choice(len(protocols.captions), GRID_IMAGES, replace=False).tolist())
    pictures: dict[str, Images] = {}
    subjects: list[SubjectScores] = []

    def add(name: str, steps: int, guidance_scale: float, images: Images) -> None:
        subjects.append(
            SubjectScores(subject=name, steps=steps, guidance_scale=guidance_scale, scores=protocols.score(images))
        )
        pictures[name] = images[places]

    stored = read_teacher_scores(teacher, teacher_sha256, protocols)
    sampler = StockSampler(teacher)
    if sampler.image_size != IMAGE_SIZE:
        raise InputError(
            f"{teacher} draws {sampler.image_size} pixels a side, and the shapes protocols read {IMAGE_SIZE}; "
            "protocols for other domains are not there yet"
        )
    prompts = protocols.prompts
    reused: list[str] = []
    for name in COMPARED:
        steps, guidance_scale = TEACHER_SETTINGS[name]
        if name in stored:
            # Only the grid is drawn: its images have the same seeds as in the full set.
            subjects.append(stored[name])
            reused.append(name)
            pictures[name] = sampler.at(prompts, places, steps, guidance_scale, f"evaluate: {name}, grid")
        else:
            add(name, steps, guidance_scale, sampler(prompts, steps, guidance_scale, f"evaluate: {name}"))
    add(STUDENT, 1, 0.0, StockSampler(student)(prompts, 1, 0.0, f"evaluate: {STUDENT}"))
    add(REAL, 0, 0.0, real_images(protocols.captions, FLOOR_SEED))
    if reused:
        report(f"scores taken from the teacher's own scorecard, same files and protocols: {', '.join(reused)}")

    with atomic_folder(output, Scorecard.FILE) as folder:
        scorecard = Scorecard(
            student_sha256=record.digest,
            teacher_sha256=teacher_sha256,
            package_sha256=code_digest(),
            subjects=tuple(subjects),
            grids=_save_grids(pictures, folder),
            grid_prompts=tuple(prompts[i] for i in places),
            reused=tuple(reused),
            seconds=round(time.monotonic() - began, 1),
        )
        scorecard.save(folder)
    return scorecard


def _save_grids(pictures: dict[str, Images], folder: Path) -> tuple[FileRef, ...]:
    refs = []
    for name, images in pictures.items():
        path = folder / "grids" / f"{name.replace(' ', '_')}.png"
        save_png(grid(images, GRID_COLUMNS), path)
        refs.append(file_ref(path, folder))
    return tuple(refs)


def score_teacher(teacher: Path, protocols: ShapesProtocols) -> tuple[SubjectScores, ...]:
    """Score a teacher at every setting of `TEACHER_SETTINGS`, and real images as the floor."""
    sampler = StockSampler(teacher)
    subjects = [
        SubjectScores(
            subject=name,
            steps=steps,
            guidance_scale=guidance_scale,
            scores=protocols.score(sampler(protocols.prompts, steps, guidance_scale, f"score: {name}")),
        )
        for name, (steps, guidance_scale) in TEACHER_SETTINGS.items()
    ]
    floor = protocols.score(real_images(protocols.captions, FLOOR_SEED))
    return (*subjects, SubjectScores(subject=REAL, steps=0, guidance_scale=0.0, scores=floor))
