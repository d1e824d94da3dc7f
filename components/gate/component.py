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
    import time
    from pathlib import Path

    from sidlsg.registry.address import given_address
    from sidlsg.registry.run_log import HELD_OUT, JUDGE
    from sidlsg.report.markdown import verdict_markdown
    from sidlsg.stages.gate import gate as run_stage
    from sidlsg.stages.inputs import gate_rules as parsed
    from sidlsg.stages.inputs import text_of
    from sidlsg.storage.records import ModelVersion

    began = time.monotonic()
    rules = parsed(recipe, text_of(gate_rules))
    record = run_stage(
        version=ModelVersion.from_json(version),
        scorecard_folder=Path(scorecard.path),
        tracking_uri=given_address(tracking_uri),
        rules=rules,
        inputs={HELD_OUT: Path(held_out_captions.path).read_text(), JUDGE: Path(judge_model.path).read_text()},
    )
    Path(summary.path).write_text(verdict_markdown(record, rules.awaits_approval(record.rules)))
    return record.to_json(), record.passed, round(time.monotonic() - began, 1)
