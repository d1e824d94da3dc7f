"""Compiles a pipeline to the file that Kubeflow Pipelines runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sidlsg.distil.table import RECIPES
from sidlsg.kubeflow.compile import read_compiled
from sidlsg.kubeflow.profile import Profile
from sidlsg.kubeflow.sdk import PIPELINES, compiler, for_cluster, manifest_options
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.storage.files import atomic_write

SUFFIXES = (".yaml", ".yml")
CHOICES = {"recipe": tuple(RECIPES), "embeddings_dtype": ("float32", "float16")}
"""Parameters that have few values: the UI offers these, and the server takes no other."""


def compile_pipeline(
    output: Path,
    pipeline: str = "distil_and_evaluate",
    profile: Profile | None = None,
    manifest: bool = False,
    namespace: str = "",
) -> None:
    """Write a compiled pipeline.

    Without a profile, the container image is the one that the environment variable `SIDLSG_IMAGE` names, and the
    cluster's defaults decide what steps get.

    Args:
        output: a .yaml file; replaced if it exists.
        pipeline: a name in `PIPELINES`.
        profile: each step's image and share of the cluster.
        manifest: write the objects `Pipeline` and `PipelineVersion`, for a Kubeflow Pipelines that keeps them in
            Kubernetes, instead of the file that its API takes. The version is named by its content.
        namespace: of those objects; empty for the one that they are applied in.

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
    traced = for_cluster(PIPELINES[pipeline], profile)
    _offer_choices(traced)
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(traced, str(compiled))
        if manifest:
            options = manifest_options(version=read_compiled(compiled).version, namespace=namespace)
            compiler.Compiler().compile(
                traced, str(compiled), kubernetes_manifest_format=True, kubernetes_manifest_options=options
            )
        text = compiled.read_text()
    try:
        atomic_write(output, text)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; give a file in a folder of yours") from error


def _offer_choices(pipeline: Any) -> None:
    # The server's API and UI know them, but kfp's own language has no word for them.
    parameters = pipeline.pipeline_spec.root.input_definitions.parameters
    for name, values in CHOICES.items():
        if name in parameters:
            del parameters[name].literals[:]
            for value in values:
                parameters[name].literals.add(string_value=value)
