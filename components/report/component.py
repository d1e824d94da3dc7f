"""The report component: everything that a run found, on one HTML page."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    account: Input[Artifact],
    scorecard: Input[Artifact],
    version: str,
    verdict: str,
    promotion: str,
    curate_seconds: float,
    encode_seconds: float,
    distil_seconds: float,
    register_seconds: float,
    evaluate_seconds: float,
    gate_seconds: float,
    promote_seconds: float,
    hourly_price: float,
    prices: dict,
    tracking_uri: str,
    html: Output[HTML],
) -> NamedTuple("Outputs", [("costs", str)]):
    """Write one page with the image grids, the scores, the verdict, the time and the cost of a run.

    Args:
        account: The student's records, log and grids, from register.
        scorecard: All scores, and the image grids.
        version: The ModelVersion record, as JSON.
        verdict: The Verdict record, as JSON.
        promotion: The Promotion record, as JSON.
        curate_seconds: How long curate took.
        encode_seconds: How long encode took.
        distil_seconds: How long distil took.
        register_seconds: How long register took.
        evaluate_seconds: How long evaluate took.
        gate_seconds: How long gate took.
        promote_seconds: How long promote took.
        hourly_price: Price an hour of a stage that prices does not name. 0 for none.
        prices: Prices an hour by stage, such as {"distil": 12.5}. {} for none.
        tracking_uri: MLflow, where the version is told what the run cost, if there is a price.
        html: The page, one file.

    Returns:
        costs: Seconds and price of each stage, as JSON.
    """
    from pathlib import Path

    from sidlsg.stages.report import report_step

    costs = report_step(
        account=Path(account.path),
        scorecard=Path(scorecard.path),
        version=version,
        verdict=verdict,
        promotion=promotion,
        seconds={
            "curate": curate_seconds,
            "encode": encode_seconds,
            "distil": distil_seconds,
            "register": register_seconds,
            "evaluate": evaluate_seconds,
            "gate": gate_seconds,
            "promote": promote_seconds,
        },
        hourly_price=hourly_price,
        prices=prices,
        tracking_uri=tracking_uri,
        html=Path(html.path),
    )
    return (costs,)
