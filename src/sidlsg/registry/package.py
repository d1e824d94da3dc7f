"""Packs a student as an MLflow model folder: its files, the code that generates with them, and the signature."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_files
from sidlsg.storage.records import Student, file_refs
from sidlsg.teacher.config import family_in, read_configs
from sidlsg.teacher.families.sd import SD

CARD = "README.md"
"""The model card in a student's folder."""
MODEL_PATH = "model"
"""The MLflow model folder among the run's artifacts."""
MODEL_TAG = "model_sha256"
"""On a run: the digest of all files of the MLflow model folder, the code that serves it included."""
_ARTIFACT = "student"
PATH_IN_MODEL = f"artifacts/{_ARTIFACT}"
"""The student's folder inside the MLflow model folder."""
SAFETY_TAG = "safety_checker"
"""In the model's metadata and on the version: what serving does by default."""
_REQUIRED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")
_IGNORED_ADVICE = ("type hints", "input example")
"""Type hints would drop the params; an input example would load the model. The signature replaces both."""


def model_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of an MLflow model folder.

    Without the file of name and version that MLflow adds when it loads a version from a store in a local folder.
    """
    added = folder / REGISTERED_MODEL_META_FILE_NAME
    return sha256_files(folder, sorted(path for path in folder.rglob("*") if path.is_file() and path != added))


def student_files(student: Student, folder: Path) -> list[str]:
    """The relative paths of a student's files; InputError if the model card is missing, or a file is elsewhere."""
    if not (folder / CARD).is_file():
        raise InputError(f"{folder / CARD} is missing; a student is registered with its model card: export it again")
    paths = [ref.path for ref in file_refs(student)]
    for path in paths:
        if "://" in path or not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{Student.FILE} in {folder} names {path}; only files inside that folder are registered")
    return [Student.FILE, CARD, *paths]


def save_model(student: Student, folder: Path, target: Path) -> None:
    """Write the MLflow model folder of a student to `target`, which must not exist yet."""
    with tempfile.TemporaryDirectory() as scratch:
        # A fixed folder name, and only the student's files; MLflow does not follow symbolic links.
        staged = Path(scratch) / _ARTIFACT
        for path in student_files(student, folder):
            _link_or_copy(folder / path, staged / path)
        with without_advice():
            mlflow.pyfunc.save_model(
                path=target,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={_ARTIFACT: str(staged)},
                signature=signature(steps_of(student)),
                model_config={
                    "safety_checker": safety_checker_of(student),
                    **serving(steps_of(student)),
                    **_called(folder),
                },
                metadata={SAFETY_TAG: safety_checker_of(student)},
                pip_requirements=requirements(),  # given, so that MLflow does not load the model to infer them
            )


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Drop MLflow's advice to authors of models, which comes in colour also where output is no terminal."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        # MLflow sets its own filter around its advice, so it is filtered afterwards.
        if not any(words in str(warning.message) for words in _IGNORED_ADVICE):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def safety_checker_of(student: Student) -> str:
    """The default of serving: `required` where the student has a safety checker, else `none`."""
    return "required" if any(ref.path.startswith("safety_checker/") for ref in student.model) else "none"


def _called(folder: Path) -> dict[str, Any]:
    """What a call of the student's stock pipeline needs besides the prompt, as `call`; SD's is not called."""
    family = family_in(folder)
    return {} if family is SD else {"call": family.guided(0) | family.called(read_configs(folder))}


def steps_of(student: Student) -> int:
    """How many steps a student is made for."""
    return int(student.recipe_values.get("steps", 1))


def serving(steps: int) -> dict[str, int]:
    """The rest of a model's serving configuration, described in `pyfunc_model`, for a student of so many steps."""
    return {"batch": 1, "max_images": 64, "max_steps": max(4, steps), "max_prompt_characters": 4096}


def signature(steps: int) -> ModelSignature:
    """One unnamed column of prompts in; for each prompt a list of base64 strings of image files out."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string)]),
        outputs=Schema([ColSpec(Array(DataType.string))]),
        params=ParamSchema(
            [
                ParamSpec("seed", DataType.long, 0),
                ParamSpec("count", DataType.long, 1),
                ParamSpec("steps", DataType.long, steps),
                ParamSpec("format", DataType.string, "png"),
            ]
        ),
    )


def requirements() -> list[str]:
    """The installed versions of what the model's code imports, without local build labels such as `+cpu`."""
    # A container image may have `mlflow-skinny`; serving the model needs all of MLflow.
    return [f"mlflow=={mlflow.__version__}", *(f"{name}=={version(name).partition('+')[0]}" for name in _REQUIRED)]


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)  # saves a copy of a large model
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
