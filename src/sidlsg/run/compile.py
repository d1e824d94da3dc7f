"""Compiles a pipeline to the file that Kubeflow Pipelines runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sidlsg.errors import InputError, nearest
from sidlsg.run.kubeflow import PIPELINES, compiler
from sidlsg.storage import atomic_write

SUFFIXES = (".yaml", ".yml")


def compile_pipeline(output: Path, pipeline: str = "distil_and_evaluate") -> None:
    """Write a compiled pipeline.

    The container image is the one that the environment variable `SIDLSG_IMAGE` names.

    Args:
        output: a .yaml file; replaced if it exists.
        pipeline: a name in `PIPELINES`.

    Raises:
        InputError: there is no such pipeline, or the file's name or place cannot be used.
    """
    if pipeline not in PIPELINES:
        raise InputError(
            f"pipeline {pipeline!r} is unknown{nearest(pipeline, PIPELINES)}; allowed: {', '.join(PIPELINES)}"
        )
    if output.suffix not in SUFFIXES:
        raise InputError(f"output {output} is not a YAML file; give a name that ends in {' or '.join(SUFFIXES)}")
    if output.is_dir():
        raise InputError(f"output {output} is a folder; give a file name that ends in {' or '.join(SUFFIXES)}")
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[pipeline], str(compiled))
        text = compiled.read_text()
    try:
        atomic_write(output, text)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; give a file in a folder of yours") from error
