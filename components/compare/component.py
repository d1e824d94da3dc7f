"""The compare component: turns a sweep's scorecards into one page and records scores on the versions."""

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
    changes: dict,
    tracking_uri: str,
    html: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Write one page with the scores of all settings of a sweep, and record each version's scores in MLflow.

    Args:
        scorecards: The scorecards, one a setting, in any order.
        versions: The ModelVersion records, as JSON, in any order.
        held_out_captions: URI of the evaluation captions, logged with the runs' inputs in MLflow.
        judge_model: The judge's URI, logged with the runs' inputs in MLflow.
        settings: The sweep's settings.
        recipe: Name of the recipe.
        changes: Values of the recipe that all settings override. {} for none.
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE. Empty for the address in the step's environment.
        html: The scoreboard, one file.
        metrics: The main scores of each setting, each under its protocol.

    Returns:
        Output: The failed settings, as JSON; the page gives the reason for each.
    """
    from pathlib import Path

    from sidlsg.stages.compare import compare_step

    failures, scores = compare_step(
        scorecards=[Path(scorecard.path) for scorecard in scorecards],
        versions=versions,
        held_out_captions=Path(held_out_captions.path),
        judge_model=Path(judge_model.path),
        settings=settings,
        recipe=recipe,
        changes=changes,
        tracking_uri=tracking_uri,
        html=Path(html.path),
        metrics=Path(metrics.path),
    )
    metrics.metadata.update(scores)
    return failures
