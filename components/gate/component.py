"""The gate component: a scorecard becomes a verdict on the version."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    version: str,
    scorecard: Input[Artifact],
    held_out_captions: Input[Dataset],
    judge_model: Input[Model],
    tracking_uri: str,
    recipe: str,
    gate_rules: str,
    summary: Output[Markdown],
) -> NamedTuple("Outputs", [("verdict", str), ("passed", bool), ("seconds", float)]):
    """Judge a version by its scorecard, against the recipe's rules and the champion. A rejection is no failure.

    Args:
        version: The ModelVersion record, as JSON.
        scorecard: All scores of this version.
        held_out_captions: The place of the evaluation's captions, for the run's inputs in MLflow.
        judge_model: The judge's place, for the same.
        tracking_uri: MLflow: the http(s) address of a server, or sqlite:///FILE. Empty for the one that the step's
            environment names.
        recipe: Name of the recipe that holds the rules.
        gate_rules: Text of a TOML file of rules instead, or its place, which ends in .toml. Empty for the recipe's.
        summary: Whether it passed, and each rule with what was found.

    Returns:
        verdict: The Verdict record, as JSON.
        passed: Whether the version may become the champion.
        seconds: How long it took.
    """
    from pathlib import Path

    from sidlsg.stages.gate import gate_step

    verdict, seconds = gate_step(
        version=version,
        scorecard=Path(scorecard.path),
        held_out_captions=Path(held_out_captions.path),
        judge_model=Path(judge_model.path),
        tracking_uri=tracking_uri,
        recipe=recipe,
        gate_rules=gate_rules,
        summary=Path(summary.path),
    )
    return verdict.to_json(), verdict.passed, seconds
