"""Packs a student as an MLflow model folder: its files, the code that draws with them, and the signature."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_files
from sidlsg.storage.records import Student, file_refs

CARD = "README.md"
"""The model card's file in a student's folder."""
ARTIFACT = "student"
MODEL_PATH = "model"
"""Where the MLflow model folder is among the run's artifacts."""
MODEL_TAG = "model_sha256"
"""The tag with the digest of all files of the MLflow model folder, the code that serves it included."""
PATH_IN_MODEL = f"artifacts/{ARTIFACT}"
"""Where the student's folder is inside the MLflow model folder."""
SAFETY_TAG = "safety_checker"
"""Names what serving does by default, in the model's metadata and on the version."""
SERVING = {"batch": 1, "max_images": 64, "max_steps": 4, "max_prompt_characters": 4096}
"""The rest of a model's serving configuration; `pyfunc_model` says what each is."""
_REQUIRED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")
_ADVICE_NOT_TAKEN = ("type hints", "input example")
"""Type hints would drop the params; an input example would load the model. The signature is given instead."""


def model_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of an MLflow model folder."""
    return sha256_files(folder, sorted(path for path in folder.rglob("*") if path.is_file()))


def student_files(student: Student, folder: Path) -> list[str]:
    """The relative paths of all files that belong to a student; anything else in its folder stays behind.

    Raises:
        InputError: the model card is missing, or the record names a file elsewhere.
    """
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
        staged = Path(scratch) / ARTIFACT
        for path in student_files(student, folder):
            _link_or_copy(folder / path, staged / path)
        with warnings.catch_warnings(record=True) as said:
            mlflow.pyfunc.save_model(
                path=target,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={ARTIFACT: str(staged)},
                signature=signature(),
                model_config={"safety_checker": safety_checker_of(student), **SERVING},
                metadata={SAFETY_TAG: safety_checker_of(student)},
                pip_requirements=requirements(),  # given, so that MLflow does not load the model to infer them
            )
    for warning in said:
        # MLflow sets a filter of its own around its advice, so it is sorted out afterwards.
        if not any(words in str(warning.message) for words in _ADVICE_NOT_TAKEN):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def safety_checker_of(student: Student) -> str:
    """What a server of this student does unless it is configured otherwise: `required`, or `none`."""
    return "required" if any(ref.path.startswith("safety_checker/") for ref in student.model) else "none"


def signature() -> ModelSignature:
    """One unnamed column of prompts in, a list of base64 strings of picture files for each out."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string)]),
        outputs=Schema([ColSpec(Array(DataType.string))]),
        params=ParamSchema(
            [
                ParamSpec("seed", DataType.long, 0),
                ParamSpec("count", DataType.long, 1),
                ParamSpec("steps", DataType.long, 1),
                ParamSpec("format", DataType.string, "png"),
            ]
        ),
    )


def requirements() -> list[str]:
    """The installed versions of what the model's code imports, without local build labels such as `+cpu`."""
    # An image may have MLflow in its smaller form, whose package has another name; who serves the model needs it whole.
    return [f"mlflow=={mlflow.__version__}", *(f"{name}=={version(name).partition('+')[0]}" for name in _REQUIRED)]


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)  # spares one copy of a large model
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
