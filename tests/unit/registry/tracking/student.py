"""A student's record as a short training would leave it, without its files."""

from __future__ import annotations

from sidlsg.storage.records import FileRef, Student

STUDENT = Student(
    recipe="tiny",
    recipe_values={"lr": 1e-4},
    strategy="lsg",
    kappas=(2.0, 2.0, 2.0, 1.5),
    teacher_sha256="a" * 64,
    prompts_sha256="b" * 64,
    package_sha256="c" * 64,
    seed=0,
    t_init=625,
    iterations=2,
    images_seen=64,
    nan_samples=0,
    seconds=1.5,
    hardware="two cores",
    model=(),
    training_log=FileRef(path="training_log.jsonl", sha256="d" * 64),
    grids=(),
)
