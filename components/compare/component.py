"""The compare component: a sweep's scorecards become one page, and scores on the versions."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare(
    scorecards: Input[list[Artifact]],
    versions: list[str],
    held_out_captions: Input[Dataset],
    judge_model: Input[Model],
    settings: list[str],
    recipe: str,
    tracking_uri: str,
    html: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Write one page with the scores of all settings of a sweep, and record each one's on its version.

    Args:
        scorecards: The scorecards, one a setting, in any order.
        versions: The ModelVersion records, as JSON, in any order.
        held_out_captions: The place of the evaluation's captions, for the runs' inputs in MLflow.
        judge_model: The judge's place, for the same.
        settings: The sweep's settings.
        recipe: Name of the recipe, for the title.
        tracking_uri: MLflow: the http(s) address of a server, or sqlite:///FILE. Empty for the one that the step's
            environment names.
        html: The scoreboard, one file.
        metrics: The main scores of each setting, each under its protocol.

    Returns:
        Output: The settings that failed, as JSON; the page names each with its reason.
    """
    import json
    from pathlib import Path

    from sidlsg.distil.recipes import published_results
    from sidlsg.registry.address import given_address
    from sidlsg.registry.run_log import HELD_OUT, JUDGE
    from sidlsg.report.scoreboard import write_scoreboard
    from sidlsg.stages.compare import by_setting, main_scores
    from sidlsg.stages.gate import record_scores
    from sidlsg.stages.handed_on import failures_json, require_none, take_note
    from sidlsg.stages.sweep import parse_setting

    swept, failed = by_setting(settings, [Path(scorecard.path) for scorecard in scorecards], versions)
    for each in failed:
        take_note(each)
    if not swept:
        require_none(failed)
    entries = [(each.setting, each.folder) for each in swept]
    title, lacking = f"Settings of recipe {recipe}", [each.text for each in failed]
    write_scoreboard(entries, Path(html.path), title, published_results(), lacking)
    address = given_address(tracking_uri)
    inputs = {HELD_OUT: Path(held_out_captions.path).read_text(), JUDGE: Path(judge_model.path).read_text()}
    for each in swept:
        record_scores(each.version, each.folder, address, inputs)
        for score in main_scores(each.card):
            metrics.log_metric(f"{parse_setting(each.setting).folder} {score.metric}", score.value)
    # The metrics are the artifact's metadata; an artifact without a file looks lost to whoever copies it.
    Path(metrics.path).write_text(json.dumps(metrics.metadata))
    return failures_json(failed)
