"""The gate component: judges a version by its scorecard."""

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
    """Judge a version's scorecard by the recipe's rules and against the champion. A rejection does not fail the step.

    Args:
        version: The ModelVersion record, as JSON.
        scorecard: All scores of this version.
        held_out_captions: URI of the evaluation captions, logged with the run's inputs in MLflow.
        judge_model: The judge's URI, logged with the run's inputs in MLflow.
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE. Empty for the address in the step's environment.
        recipe: Name of the recipe whose gate rules apply.
        gate_rules: TOML file of gate rules: its text, or a URI that ends in .toml. Empty for the recipe's rules.
        summary: The verdict, and each rule with its finding.

    Returns:
        verdict: The Verdict record, as JSON.
        passed: Whether the version may become the champion.
        seconds: Duration of the step in seconds.
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
