"""Steps that pipelines share, each with its caching option.

`given` holds a pipeline's parameters by name. A cached step gets only inputs that affect its result: the addresses of
MLflow and the checkpoints come from its environment.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl

from sidlsg.components.curate.component import curate
from sidlsg.components.encode.component import encode
from sidlsg.components.evaluate.component import evaluate
from sidlsg.components.gate.component import gate
from sidlsg.components.register.component import register
from sidlsg.components.resolve.component import resolve
from sidlsg.components.training import train

Given = Mapping[str, Any]
RESOLVED = ("teacher", "held_out", "judge", "results_version")
"""Outputs of `resolve` that the steps with a teacher take."""


def resolve_inputs(given: Given) -> Any:
    """Compute the digests of a run's inputs. Never cached: their content may have changed since the last run."""
    names = (
        "prompts",
        "held_out",
        "teacher",
        "teacher_layout",
        "judge",
        "weights",
        "gate_rules",
        "recipe",
        "changes",
        "seed",
    )
    inputs = {name: given[name] for name in names}
    return resolve(**inputs, pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER).set_caching_options(False)


def make_prompts(given: Given, resolved: Any) -> tuple[Any, Any]:
    """Curate prompts and encode them."""
    curated = curate(
        source=given["prompts"],
        source_state=resolved.outputs["prompts_state"],
        held_out=resolved.outputs["held_out"],
        rules=given["rules"],
        results_version=resolved.outputs["results_version"],
    ).set_caching_options(True)
    encoded = encode(
        prompt_set=curated.outputs["prompt_set"],
        teacher=resolved.outputs["teacher"],
        teacher_layout=given["teacher_layout"],
        dtype=given["embeddings_dtype"],
        budget_gb=given["embeddings_gb"],
        real_images=resolved.outputs["real_images"],
        held_out=resolved.outputs["held_out"],
        results_version=resolved.outputs["results_version"],
    ).set_caching_options(True)
    return curated, encoded


def make_student(given: Given, resolved: Any, curated: Any, encoded: Any, **setting: Any) -> tuple[Any, Any, Any]:
    """Distil, register and score a student; in a sweep, for one setting."""
    distilled = train(
        prompt_set=curated.outputs["prompt_set"],
        embeddings=encoded.outputs["embeddings"],
        **{name: resolved.outputs[name] for name in (*RESOLVED, "seed")},
        **{name: given[name] for name in ("teacher_layout", "recipe", "changes")},
        **setting,
    ).set_caching_options(True)
    student = distilled.outputs["student"]
    # Never cached: it changes the registry.
    registered = register(
        student=student,
        teacher_model=resolved.outputs["teacher_model"],
        name=given["model_name"],
        pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        **{name: given[name] for name in ("tracking_uri", "hourly_price", "prices")},
        **setting,
    ).set_caching_options(False)
    # Evaluation runs after registration, so that a student is registered even if its evaluation fails.
    return distilled, registered, score(given, resolved, student=student, **setting).after(registered)


def score(given: Given, resolved: Any, **student: Any) -> Any:
    """Score a student, or a registered version."""
    return evaluate(
        **{name: resolved.outputs[name] for name in (*RESOLVED, "weights")},
        **{name: given[name] for name in ("teacher_layout", "protocols", "teacher_settings", "keep_images")},
        **student,
    ).set_caching_options(True)


def judge(given: Given, resolved: Any, version: Any, scorecard: Any) -> Any:
    """Judge a version against the current champion. Never cached."""
    return gate(
        version=version,
        scorecard=scorecard,
        **{name: resolved.outputs[name] for name in ("held_out_captions", "judge_model", "gate_rules")},
        **{name: given[name] for name in ("tracking_uri", "recipe")},
    ).set_caching_options(False)
