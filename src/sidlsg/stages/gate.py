"""The `gate` stage: judges a version by its scorecard, and records verdict and scores in MLflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sidlsg.distil.recipes import published_results
from sidlsg.registry.address import given_address
from sidlsg.registry.approval import approve as approve_version
from sidlsg.registry.gate import gate as judge_version
from sidlsg.registry.run_log import HELD_OUT, JUDGE
from sidlsg.registry.score_log import record_scores as record_version_scores
from sidlsg.registry.transfer import transfer as transfer_version
from sidlsg.report.markdown import verdict_markdown
from sidlsg.report.scoreboard import write_scoreboard
from sidlsg.stages import timed
from sidlsg.stages.gate_rules import gate_rules as rules_of
from sidlsg.stages.inputs import text_of
from sidlsg.storage.records import ModelVersion, Verdict


def score_page(title: str, scorecard: Path, output: Path) -> None:
    """Write the HTML page of a version's scores, which the registry stores with the scores."""
    write_scoreboard([(title, scorecard)], output, f"Scores of {title}", published_results())


# The functions that record scores get the page's writer here: the registry does not import the report package.
gate = partial(judge_version, page=score_page)
approve = partial(approve_version, page=score_page)
transfer = partial(transfer_version, page=score_page)
record_scores = partial(record_version_scores, page=score_page)


@timed
def gate_step(
    *,
    version: str,
    scorecard: Path,
    held_out_captions: Path,
    judge_model: Path,
    tracking_uri: str,
    recipe: str,
    gate_rules: str,
    summary: Path,
) -> Verdict:
    """Judge a version against the champion; `summary` receives Markdown. See the component for the inputs."""
    rules = rules_of(recipe, text_of(gate_rules))
    verdict = gate(
        ModelVersion.from_json(version),
        scorecard,
        given_address(tracking_uri),
        rules,
        evaluation_inputs(held_out_captions, judge_model),
    )
    summary.write_text(verdict_markdown(verdict, rules.awaits_approval(verdict.rules)))
    return verdict


def evaluation_inputs(held_out_captions: Path, judge_model: Path) -> dict[str, str]:
    """The URIs of an evaluation's inputs by name, read from files, for its run in MLflow."""
    return {HELD_OUT: held_out_captions.read_text(), JUDGE: judge_model.read_text()}
