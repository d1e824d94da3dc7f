"""Compiled pipelines: written, read, and their parameters checked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.distil.recipes import RECIPES
from sidlsg.kubeflow.sdk import KubernetesManifestOptions, compiler
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import atomic_write

SUFFIXES = (".yaml", ".yml")
CHOICES = {"recipe": tuple(RECIPES), "embeddings_dtype": ("float32", "float16")}
"""Parameters that have few values: the UI offers these, and the server takes no other."""
EXACT = 2**53
"""Parameters travel as doubles, which hold whole numbers up to here."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_json(value: Any) -> bool:
    """TOML has dates, and it and Python's JSON have infinity and NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "NUMBER_INTEGER": (
        "a whole number up to 2**53",
        lambda value: _is_number(value) and abs(value) <= EXACT and value == int(value),
    ),
    "NUMBER_DOUBLE": ("a number", _is_number),
    "BOOLEAN": ("true or false", lambda value: isinstance(value, bool)),
    "STRING": ("text", lambda value: isinstance(value, str)),
    "LIST": ("a JSON list", lambda value: isinstance(value, list) and _is_json(value)),
    "STRUCT": ("a JSON object", lambda value: isinstance(value, dict) and _is_json(value)),
}
"""A parameter's types, as the compiled file names them: in words, and which values they have."""
ANY: tuple[str, Callable[[Any], bool]] = ("a value", lambda _: True)


@dataclass(frozen=True, kw_only=True)
class CompiledPipeline:
    """A compiled pipeline to upload."""

    name: str
    text: str
    parameters: Mapping[str, Mapping[str, Any]]
    """The compiled file's definitions, by name."""
    version: str
    """A digest of the content: comments and the order of keys do not change it."""

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check a run's parameters.

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
                words, _ = KINDS.get(definition.get("parameterType", ""), ANY)
                raise InputError(f"pipeline {self.name} needs the parameter {name}, {words}; give it")
        return {name: _checked(name, self.parameters[name], value) for name, value in given.items()}

    def parsed(self, texts: Sequence[str]) -> dict[str, Any]:
        """Parse a run's parameters `NAME=VALUE`, each by its type, and check them.

        Raises:
            InputError: as for `checked`, or a text has another form, or a name is given twice.
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
                with contextlib.suppress(ValueError):  # the check reports what is wrong
                    given[name] = parse_json(value)
        return self.checked(given)


def _checked(name: str, definition: Mapping[str, Any], value: Any) -> Any:
    kind = definition.get("parameterType", "")
    words, fits = KINDS.get(kind, ANY)
    if kind == "STRING" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # such as a seed in TOML
    if not fits(value):
        raise InputError(f"parameter {name} is {value!r}; it must be {words}")
    choices = definition.get("literals", ())
    if choices and value not in choices:
        raise InputError(f"parameter {name} is {value!r}; allowed: {', '.join(map(str, choices))}")
    return int(value) if kind == "NUMBER_INTEGER" else value


def read_compiled(path: Path) -> CompiledPipeline:
    """Read a file that `sidlsg compile` or Kubeflow Pipelines' own compiler wrote.

    Raises:
        InputError: it cannot be read, or is not a compiled pipeline.
    """
    import yaml

    advice = "give a file from `sidlsg compile`"
    try:
        text = path.read_text()
        documents = list(yaml.safe_load_all(text))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {advice}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML; {advice}") from error
    try:
        name = documents[0]["pipelineInfo"]["name"]
        parameters = (documents[0]["root"].get("inputDefinitions") or {}).get("parameters") or {}
        definitions = {str(each): dict(definition) for each, definition in parameters.items()}
        if not isinstance(name, str):
            raise TypeError(name)
        content = json.dumps(documents, sort_keys=True, default=str).encode()
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a compiled pipeline; {advice}") from error
    version = f"sha256-{hashlib.sha256(content).hexdigest()[:24]}"
    return CompiledPipeline(name=name, text=text, parameters=definitions, version=version)


def write_compiled(output: Path, pipeline: Any, manifest: bool = False, namespace: str = "") -> None:
    """Compile a pipeline to a file.

    Args:
        output: a .yaml file; replaced if it exists.
        pipeline: traced; its parameters in `CHOICES` get their choices.
        manifest: write the objects `Pipeline` and `PipelineVersion`, for a Kubeflow Pipelines that keeps them in
            Kubernetes, instead of the file that its API takes. The version is named by its content.
        namespace: of those objects; empty for the one that they are applied in.

    Raises:
        InputError: the file cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise InputError(f"output {output} is not a YAML file; give a name that ends in {' or '.join(SUFFIXES)}")
    if output.is_dir():
        raise InputError(f"output {output} is a folder; give a file name that ends in {' or '.join(SUFFIXES)}")
    # The server's API and UI have choices; kfp's language does not.
    parameters = pipeline.pipeline_spec.root.input_definitions.parameters
    for name in CHOICES.keys() & set(parameters):
        del parameters[name].literals[:]
        for value in CHOICES[name]:
            parameters[name].literals.add(string_value=value)
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        if manifest:
            options = KubernetesManifestOptions(
                pipeline_version_name=read_compiled(compiled).version,
                namespace=namespace or None,
                include_pipeline_manifest=True,
            )
            compiler.Compiler().compile(
                pipeline, str(compiled), kubernetes_manifest_format=True, kubernetes_manifest_options=options
            )
        text = compiled.read_text()
    try:
        atomic_write(output, text)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; give a file in a folder of yours") from error
