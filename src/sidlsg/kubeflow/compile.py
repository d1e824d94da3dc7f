"""A compiled pipeline: its name, its digest, and what its parameters may be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.distil.recipes import RECIPES
from sidlsg.kubeflow.profile import Profile
from sidlsg.kubeflow.sdk import PIPELINES, compiler, for_cluster, manifest_options
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import atomic_write

FILES = (".yaml", ".yml")
KINDS = {
    "NUMBER_INTEGER": "a whole number up to 2**53",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "STRING": "text",
    "LIST": "a JSON list",
    "STRUCT": "a JSON object",
}
"""A parameter's types, as the compiled file names them, in words."""
EXACT = 2**53
"""Parameters travel as doubles, which hold whole numbers up to here."""


@dataclass(frozen=True, kw_only=True)
class CompiledPipeline:
    """What is uploaded, and checked before."""

    name: str
    text: str
    parameters: Mapping[str, Mapping[str, Any]]
    """The compiled file's definitions, by name."""
    version: str
    """Of the content: comments and the order of keys do not change it."""

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values for a run, by name.

        Raises:
            InputError: a name is unknown, a value has another type, or one without a default is missing.
        """
        for name in given:
            if name not in self.parameters:
                raise InputError(
                    f"pipeline {self.name} has no parameter {name!r}{nearest(name, self.parameters)}; allowed: "
                    f"{', '.join(self.parameters) or 'none'}"
                )
        for name, definition in self.parameters.items():
            if name not in given and "defaultValue" not in definition and not definition.get("isOptional"):
                raise InputError(f"pipeline {self.name} needs the parameter {name}, {_kind(definition)}; give it")
        return {name: _checked(name, self.parameters[name], value) for name, value in given.items()}

    def parsed(self, texts: Sequence[str]) -> dict[str, Any]:
        """Values for a run from `NAME=VALUE`, each read as its parameter's type says.

        Raises:
            InputError: as for `checked`, or a text is written otherwise, or a name is given twice.
        """
        given: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"--set {text!r} has no value; give {text}=VALUE")
            if name in given:
                raise InputError(f"--set gives {name} twice; give it once")
            given[name] = value
            if name in self.parameters and self.parameters[name].get("parameterType") != "STRING":
                with contextlib.suppress(ValueError):  # the check says what is wrong
                    given[name] = parse_json(value)
        return self.checked(given)


def read_compiled(path: Path) -> CompiledPipeline:
    """Read a file that `sidlsg compile` or Kubeflow Pipelines' own compiler wrote.

    Raises:
        InputError: it cannot be read, or is not a compiled pipeline.
    """
    import yaml

    try:
        text = path.read_text()
        documents = list(yaml.safe_load_all(text))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a file from `sidlsg compile`") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML; give a file from `sidlsg compile`") from error
    try:
        name = documents[0]["pipelineInfo"]["name"]
        parameters = (documents[0]["root"].get("inputDefinitions") or {}).get("parameters") or {}
        definitions = {str(each): dict(definition) for each, definition in parameters.items()}
        if not isinstance(name, str):
            raise TypeError(name)
        content = json.dumps(documents, sort_keys=True, default=str).encode()
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a compiled pipeline; give a file from `sidlsg compile`") from error
    version = f"sha256-{hashlib.sha256(content).hexdigest()[:24]}"
    return CompiledPipeline(name=name, text=text, parameters=definitions, version=version)


def get_compiled(pipeline: str, folder: Path = Path()) -> CompiledPipeline:
    """Compile a pipeline of this package, or read a compiled one.

    Args:
        pipeline: a name that `sidlsg compile` takes, or a .yaml file.
        folder: what a relative file is relative to.

    Raises:
        InputError: there is no such pipeline, or the file cannot be used.
    """
    if pipeline.endswith(FILES):
        return read_compiled(folder / pipeline)

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pipeline.yaml"
        compile_pipeline(path, pipeline)
        return read_compiled(path)


def _kind(definition: Mapping[str, Any]) -> str:
    return KINDS.get(str(definition.get("parameterType")), "a value")


def _checked(name: str, definition: Mapping[str, Any], value: Any) -> Any:
    kind = definition.get("parameterType")
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    fits = {
        "NUMBER_INTEGER": number and abs(value) <= EXACT and value == int(value),
        "NUMBER_DOUBLE": number,
        "BOOLEAN": isinstance(value, bool),
        "STRING": isinstance(value, str),
        "LIST": isinstance(value, list) and _is_json(value),
        "STRUCT": isinstance(value, dict) and _is_json(value),
    }
    if kind == "STRING" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # such as a seed in TOML
        fits["STRING"] = True
    if not fits.get(str(kind), True):
        raise InputError(f"parameter {name} is {value!r}; it must be {_kind(definition)}")
    choices = definition.get("literals", ())
    if choices and value not in choices:
        raise InputError(f"parameter {name} is {value!r}; allowed: {', '.join(map(str, choices))}")
    return int(value) if kind == "NUMBER_INTEGER" else value


def _is_json(value: Any) -> bool:
    """TOML has dates, and it and Python's JSON have infinity and NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


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
