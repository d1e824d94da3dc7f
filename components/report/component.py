"""The report component: writes all results of a run to one HTML page."""

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
    """Write one page with a run's image grids, scores, verdict, time and cost.

    Args:
        account: The student's records, training log and sample grids, from register.
        scorecard: All scores and image grids.
        version: The ModelVersion record, as JSON.
        verdict: The Verdict record, as JSON.
        promotion: The Promotion record, as JSON.
        curate_seconds: Duration of curate in seconds.
        encode_seconds: Duration of encode in seconds.
        distil_seconds: Duration of distil in seconds.
        register_seconds: Duration of register in seconds.
        evaluate_seconds: Duration of evaluate in seconds.
        gate_seconds: Duration of gate in seconds.
        promote_seconds: Duration of promote in seconds.
        hourly_price: Hourly price of stages that prices does not name. 0 for none.
        prices: Hourly prices by stage, such as {"distil": 12.5}. {} for none.
        tracking_uri: MLflow address, for recording the run's cost on the version if a price is given.
        html: The page, one file.

    Returns:
        costs: Duration and price of each stage, as JSON.
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
