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

    from sidlsg.distil.recipes import published_results
    from sidlsg.registry.address import given_address
    from sidlsg.report.run_page import write_report
    from sidlsg.runtime.costs import cost, costs_json, parse_prices
    from sidlsg.runtime.overrides import changes_text
    from sidlsg.storage.records import ModelVersion, Promotion, Verdict

    registered, priced = ModelVersion.from_json(version), parse_prices(changes_text(prices), hourly_price)
    seconds = {
        "curate": curate_seconds,
        "encode": encode_seconds,
        "distil": distil_seconds,
        "register": register_seconds,
        "evaluate": evaluate_seconds,
        "gate": gate_seconds,
        "promote": promote_seconds,
    }
    write_report(
        prompts=Path(account.path),
        student=Path(account.path),
        scorecard=Path(scorecard.path),
        version=registered,
        verdict=Verdict.from_json(verdict),
        promotion=Promotion.from_json(promotion),
        seconds=seconds,
        prices=priced,
        output=Path(html.path),
        published=published_results(),
    )
    found = cost(seconds, priced)
    if found.priced:
        from sidlsg.registry.versions import record_cost

        record_cost(registered, given_address(tracking_uri), found.amount)
    return (costs_json(seconds, priced),)
